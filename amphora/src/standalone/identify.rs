//! Gives ids to what a snapshot file leaves without: the same names give the same ids, so that a reload recognises
//! what stayed.
//!
//! A thing is known by its name; without one by what tells it from its siblings (a listener by its port, a member by
//! its address), a pool by its position.

use std::{
    collections::HashMap,
    fmt::{self, Write},
};

use serde_json::{Map, Value, json};
use uuid::{Builder, Uuid};

use crate::strict::Flaw;

/// How often each key was seen so far: the second of two alike gets an id of its own.
pub(super) type Seen = HashMap<u128, u32>;

/// What the id of a load balancer depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Basis {
    /// It is written.
    Written,
    /// What the load balancer is known by.
    Key(u128),
    /// That, and how many before it are known by the same.
    KeyAndPlace,
}

/// Completes one checked load balancer in place; what its id depends on.
pub(super) fn complete(
    path: &str,
    balancer: &mut Map<String, Value>,
    seen: &mut Seen,
    flaws: &mut Vec<Flaw>,
) -> Basis {
    for vip in array(balancer, "vips") {
        if vip.is_string() {
            *vip = json!({ "address": vip.take() });
        }
    }
    let fallback = balancer
        .get("vips")
        .map(ToString::to_string)
        .unwrap_or_default();
    let top = Key::default();
    let fallback = top.with(format_args!("/?{fallback}"));
    let (id, basis) = identify(balancer, "load_balancer", &top, fallback, seen);
    let (pools, listeners) = (Key::of(id, "pool"), Key::of(id, "listener"));
    let mut siblings = Seen::new();
    let mut pool_ids: HashMap<String, Vec<Uuid>> = HashMap::new();
    for (index, pool) in array(balancer, "pools")
        .iter_mut()
        .filter_map(Value::as_object_mut)
        .enumerate()
    {
        let (pool_id, _) = identify(
            pool,
            "id",
            &pools,
            pools.with(format_args!("/?#{index}")),
            &mut siblings,
        );
        pool_ids.entry(name_of(pool)).or_default().push(pool_id);
        complete_pool(pool, pool_id);
    }
    for (index, listener) in array(balancer, "listeners")
        .iter_mut()
        .filter_map(Value::as_object_mut)
        .enumerate()
    {
        let port = listener
            .get("port")
            .map(ToString::to_string)
            .unwrap_or_default();
        let (listener_id, _) = identify(
            listener,
            "id",
            &listeners,
            listeners.with(format_args!("/?{port}")),
            &mut siblings,
        );
        let path = format!("{path}.listeners[{index}]");
        resolve_pool(
            &format!("{path}.default_pool"),
            listener,
            "default_pool",
            &pool_ids,
            flaws,
        );
        complete_policies(&path, listener, listener_id, &pool_ids, flaws);
    }
    // Whatever the file says is a floor; the real number depends on what is in force.
    if balancer.get("generation").is_none_or(Value::is_null) {
        balancer.insert("generation".to_owned(), json!(1));
    }
    basis
}

fn complete_policies(
    path: &str,
    listener: &mut Map<String, Value>,
    listener_id: Uuid,
    pools: &HashMap<String, Vec<Uuid>>,
    flaws: &mut Vec<Flaw>,
) {
    let policies = Key::of(listener_id, "policy");
    let mut siblings = Seen::new();
    for (index, policy) in array(listener, "policies")
        .iter_mut()
        .filter_map(Value::as_object_mut)
        .enumerate()
    {
        identify(
            policy,
            "id",
            &policies,
            policies.with(format_args!("/?#{index}")),
            &mut siblings,
        );
        let path = format!("{path}.policies[{index}].action.{TO_POOL}");
        let Some(action) = policy.get_mut("action").and_then(Value::as_object_mut) else {
            continue;
        };
        resolve_pool(&path, action, TO_POOL, pools, flaws);
        // A policy that sends nowhere is no policy; what is wrong with it was said.
        if action.get(TO_POOL).is_some_and(Value::is_null) {
            policy.insert("action".to_owned(), json!("reject"));
        }
    }
}

fn complete_pool(pool: &mut Map<String, Value>, pool_id: Uuid) {
    let mut siblings = Seen::new();
    let members = Key::of(pool_id, "member");
    for member in array(pool, "members")
        .iter_mut()
        .filter_map(Value::as_object_mut)
    {
        let address = members.with(format_args!(
            "/?{:?}:{:?}",
            member.get("address"),
            member.get("port")
        ));
        identify(member, "id", &members, address, &mut siblings);
    }
    if let Some(monitor) = pool.get_mut("monitor").and_then(Value::as_object_mut) {
        let monitors = Key::of(pool_id, "monitor");
        identify(
            monitor,
            "id",
            &monitors,
            monitors.with(format_args!("/?")),
            &mut siblings,
        );
    }
}

/// A pool may be named instead of given by id. A name that means nothing is taken out, so that what else is wrong
/// with the load balancer comes out too.
fn resolve_pool(
    path: &str,
    holder: &mut Map<String, Value>,
    field: &str,
    pools: &HashMap<String, Vec<Uuid>>,
    flaws: &mut Vec<Flaw>,
) {
    let Some(text) = holder.get(field).and_then(Value::as_str) else {
        return;
    };
    if Uuid::parse_str(text).is_ok() {
        return;
    }
    let resolved = match pools.get(text).map(Vec::as_slice) {
        Some([id]) => json!(id.to_string()),
        Some(several) if !text.is_empty() => {
            flaws.push(Flaw::new(
                path,
                format!("{} pools are called {text:?}", several.len()),
            ));
            Value::Null
        }
        _ => {
            flaws.push(Flaw::new(
                path,
                format!("{text:?} is neither the name nor the id of a pool here"),
            ));
            Value::Null
        }
    };
    holder.insert(field.to_owned(), resolved);
}

/// The id that is written, or one made from what the thing is known by, its name or else `fallback`, which is then
/// written.
fn identify(
    object: &mut Map<String, Value>,
    field: &str,
    scope: &Key,
    fallback: Key,
    seen: &mut Seen,
) -> (Uuid, Basis) {
    if let Some(id) = object
        .get(field)
        .and_then(Value::as_str)
        .and_then(|text| Uuid::parse_str(text).ok())
    {
        return (id, Basis::Written);
    }
    let name = object.get("name").and_then(Value::as_str);
    let key = match name.filter(|name| !name.is_empty()) {
        Some(name) => scope.with(format_args!("/{name}")),
        None => fallback,
    };
    let before = seen.entry(key.0).or_insert(0);
    *before += 1;
    let id = key.with(format_args!("/{before}")).id();
    object.insert(field.to_owned(), json!(id.to_string()));
    let basis = match before {
        1 => Basis::Key(key.0),
        _ => Basis::KeyAndPlace,
    };
    (id, basis)
}

fn name_of(object: &Map<String, Value>) -> String {
    object
        .get("name")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

fn array<'a>(object: &'a mut Map<String, Value>, field: &str) -> &'a mut [Value] {
    object
        .get_mut(field)
        .and_then(Value::as_array_mut)
        .map_or(&mut [], Vec::as_mut_slice)
}

/// The action that names a pool.
const TO_POOL: &str = "redirect_to_pool";

/// What something is known by, as the FNV-1a digest over 128 bits of its text: stable for ever, and no secret depends on
/// it. What siblings have in common is digested once.
#[derive(Clone, Copy)]
struct Key(u128);

impl Default for Key {
    fn default() -> Self {
        Self(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }
}

impl Key {
    /// That of everything of one kind in one holder.
    fn of(holder: Uuid, kind: &str) -> Self {
        Self::default().with(format_args!("{holder}/{kind}"))
    }

    /// That of a longer text.
    fn with(self, text: fmt::Arguments<'_>) -> Self {
        let mut longer = self;
        // A digest takes everything.
        let _ = longer.write_fmt(text);
        longer
    }

    fn id(self) -> Uuid {
        Builder::from_custom_bytes(self.0.to_be_bytes()).into_uuid()
    }
}

impl Write for Key {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
        self.0 = text.bytes().fold(self.0, |hash, byte| {
            (hash ^ u128::from(byte)).wrapping_mul(PRIME)
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_the_published_one() {
        let digest = |text: &str| Key::default().with(format_args!("{text}")).0;
        assert_eq!(digest(""), 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d);
        assert_eq!(digest("a"), 0xd228_cb69_6f1a_8caf_7891_2b70_4e4a_8964);
    }

    #[test]
    fn the_same_names_give_the_same_ids_in_every_release() {
        let mut balancer = json!({"name": "shop", "vips": ["127.0.0.1"],
            "listeners": [{"port": 80}], "pools": [{"name": "web", "members": [{"address": "192.0.2.1", "port": 80}]}]});
        complete(
            "",
            balancer.as_object_mut().unwrap(),
            &mut Seen::new(),
            &mut Vec::new(),
        );
        assert_eq!(
            balancer["load_balancer"],
            "b3193f4f-cf4f-878c-ac70-f7a678882ca2"
        );
        assert_eq!(
            balancer["listeners"][0]["id"],
            "65c7c535-0d0c-8c06-ba43-83437d637bcb"
        );
        assert_eq!(
            balancer["pools"][0]["members"][0]["id"],
            "0361eb56-06f3-8ef5-9634-4301241346fa"
        );
    }
}
