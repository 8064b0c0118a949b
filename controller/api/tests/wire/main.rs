//! The API from outside: requests in, commands and answers out, over an application that only pretends.

#[cfg(test)]
mod fake;
#[cfg(test)]
mod sample;

#[cfg(test)]
mod amphorae;
#[cfg(test)]
mod catalogue;
#[cfg(test)]
mod discovery;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod graph;
#[cfg(test)]
mod health_monitors;
#[cfg(test)]
mod l7_policies;
#[cfg(test)]
mod l7_rules;
#[cfg(test)]
mod listener_rules;
#[cfg(test)]
mod listener_tls;
#[cfg(test)]
mod listeners;
#[cfg(test)]
mod lists;
#[cfg(test)]
mod load_balancers;
#[cfg(test)]
mod member_rules;
#[cfg(test)]
mod members;
#[cfg(test)]
mod monitor_rules;
#[cfg(test)]
mod networks;
#[cfg(test)]
mod not_carried;
#[cfg(test)]
mod nul;
#[cfg(test)]
mod openapi;
#[cfg(test)]
mod permission;
#[cfg(test)]
mod pool_rules;
#[cfg(test)]
mod pools;
#[cfg(test)]
mod quotas;
#[cfg(test)]
mod routing;
#[cfg(test)]
mod terms;
#[cfg(test)]
mod walks;
