//! The member (reference 8).

use core::net::IpAddr;

use krater_amphora_api::{MemberId, PoolId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Name, Tags, VnicType};

/// A member as the tenant wants it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its id.
    pub id: MemberId,
    /// The pool it belongs to.
    pub pool: PoolId,
    /// Its name.
    pub name: Name,
    /// `false`: out of rotation at once.
    pub admin_state_up: bool,
    /// Where it listens.
    pub address: IpAddr,
    /// The port it listens on, 1–65535.
    pub protocol_port: u16,
    /// Its share, 0–256; 0 takes nothing new.
    pub weight: u16,
    /// Used only while no other can be.
    pub backup: bool,
    /// The subnet through which it is reached.
    pub subnet_id: Option<Uuid>,
    /// Probed instead of `address`.
    pub monitor_address: Option<IpAddr>,
    /// Probed instead of `protocol_port`.
    pub monitor_port: Option<u16>,
    /// The port it is reached through.
    #[serde(default)]
    pub vnic_type: VnicType,
    /// Its tags.
    pub tags: Tags,
}
