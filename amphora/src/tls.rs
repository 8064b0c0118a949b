//! TLS on the data path: what a spec says of it, as rustls takes it.

pub(crate) mod material;
