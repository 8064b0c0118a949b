//! Which commands are admitted, and what they touch.

mod balancer;
mod batch;
mod listeners;
mod members;
mod monitors;
mod pending;
mod policies;
mod pools;
mod rules;
mod sequences;
