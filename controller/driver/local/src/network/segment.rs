//! Networks of tenants that live on this host without touching its own: bridges and tunnels as configured, and as parsed.

use serde::Deserialize;
use uuid::Uuid;

/// How a network is built on hosts, as configured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SegmentConfig {
    /// The bridge of this host that it is on; made when there is none of that name. One that is ours alone unless set.
    #[serde(default)]
    pub bridge: Option<String>,
    /// Its number in tunnels (VXLAN) to other hosts; without one it is on this host only.
    #[serde(default)]
    pub vni: Option<u32>,
    /// The largest packet; 1500 unless set, 1450 in tunnels.
    #[serde(default)]
    pub mtu: Option<u32>,
}

/// How a network is built on hosts, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) bridge: String,
    pub(crate) vni: Option<u32>,
    pub(crate) mtu: u32,
}

impl Segment {
    /// The segment of a network, or everything that is wrong with it.
    pub(super) fn parse(network: Uuid, config: &SegmentConfig) -> Result<Self, Vec<String>> {
        let mut reasons = Vec::new();
        if let Some(bridge) = &config.bridge
            && !is_interface_name(bridge)
        {
            reasons.push(format!("{bridge:?} is not the name of a bridge"));
        }
        if let Some(vni) = config.vni
            && !(1..VNI_END).contains(&vni)
        {
            reasons.push(format!("vni {vni} is not between 1 and 16777215"));
        }
        let default = if config.vni.is_some() {
            MTU_TUNNEL
        } else {
            MTU
        };
        let mtu = config.mtu.unwrap_or(default);
        if !(MTU_MIN..=MTU_MAX).contains(&mtu) {
            reasons.push(format!("mtu {mtu} is not between {MTU_MIN} and {MTU_MAX}"));
        }
        if !reasons.is_empty() {
            return Err(reasons);
        }
        Ok(Self {
            bridge: config.bridge.clone().unwrap_or_else(|| own_bridge(network)),
            vni: config.vni,
            mtu,
        })
    }

    /// What two networks cannot share.
    pub(super) fn clash(&self, other: &Self) -> Option<String> {
        if self.bridge == other.bridge {
            return Some(format!("the bridge {}", self.bridge));
        }
        let vni = self.vni.filter(|vni| other.vni == Some(*vni))?;
        Some(format!("vni {vni}"))
    }
}

/// A bridge that nobody else calls anything so.
fn own_bridge(network: Uuid) -> String {
    let id = network.simple().to_string();
    format!("kb-{}", id.get(..12).unwrap_or(&id))
}

/// What the kernel takes as the name of an interface.
fn is_interface_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'/' && byte != b':';
    (1..16).contains(&text.len()) && text != "." && text != ".." && text.bytes().all(plain)
}

const MTU: u32 = 1_500;
/// What a tunnel leaves of it.
const MTU_TUNNEL: u32 = 1_450;
/// The least that IPv6 lives with.
const MTU_MIN: u32 = 1_280;
const MTU_MAX: u32 = 65_535;
const VNI_END: u32 = 1 << 24;

#[cfg(test)]
mod tests;
