//! The resources of operators, field for field (reference 12, 14–16).

use super::{
    field::{
        Mode::{Changed, Needed, NeededChanged, Shown, SometimesShown},
        Null::{Both, Never, Sent},
        Takes::{Address, Boolean, Choice, Integer, References, Text, Time, Uuid},
    },
    resource::{Resource, fields},
};

/// Quotas of a project. Both spellings are taken and shown; the older one wins.
pub(super) const QUOTA: Resource = Resource {
    component: "Quota",
    root: "quota",
    root_list: "quotas",
    links: "quotas_links",
    fields: fields! {
        [];
        "project_id": Text(0, 255), SometimesShown, Never, "Whose they are; of the defaults nobody's.";
        "tenant_id": Text(0, 255), SometimesShown, Never, "The same.";
        "load_balancer": COUNT, Changed, Sent, "Load balancers; -1 is no limit, null the default.";
        "loadbalancer": COUNT, Changed, Sent, "The same.";
        "listener": COUNT, Changed, Sent, "Listeners.";
        "pool": COUNT, Changed, Sent, "Pools.";
        "member": COUNT, Changed, Sent, "Members.";
        "health_monitor": COUNT, Changed, Sent, "Health monitors.";
        "healthmonitor": COUNT, Changed, Sent, "The same.";
        "l7policy": COUNT, Changed, Sent, "L7 policies.";
        "l7rule": COUNT, Changed, Sent, "L7 rules.";
    },
};

/// Flavors.
pub(super) const FLAVOR: Resource = Resource {
    component: "Flavor",
    root: "flavor",
    root_list: "flavors",
    links: "flavors_links",
    fields: fields! {
        [];
        "id": Uuid, Shown, Never, "Its id.";
        "name": Text(0, 255), NeededChanged, Never, "Its name, unique.";
        "description": Text(0, 255), Changed, Sent, "A note.";
        "enabled": Boolean, Changed, Never, "Whether new load balancers may have it.";
        "flavor_profile_id": Uuid, Needed, Never, "What it means.";
    },
};

/// Flavor profiles.
pub(super) const FLAVOR_PROFILE: Resource = Resource {
    component: "FlavorProfile",
    root: "flavorprofile",
    root_list: "flavorprofiles",
    links: "flavorprofile_links",
    fields: fields! {
        [];
        "id": Uuid, Shown, Never, "Its id.";
        "name": Text(0, 255), NeededChanged, Never, "Its name; need not be unique.";
        "provider_name": Text(0, 255), NeededChanged, Never, "The provider that understands it.";
        "flavor_data": Text(1, 4096), NeededChanged, Never, "A JSON object, as a text.";
    },
};

/// Availability zones; their name is their id.
pub(super) const AVAILABILITY_ZONE: Resource = Resource {
    component: "AvailabilityZone",
    root: "availability_zone",
    root_list: "availability_zones",
    links: "availability_zones_links",
    fields: fields! {
        [];
        "name": Text(1, 255), Needed, Never, "Its name, unique.";
        "description": Text(0, 255), Changed, Sent, "A note.";
        "enabled": Boolean, Changed, Never, "Whether new load balancers may be in it.";
        "availability_zone_profile_id": Uuid, Needed, Never, "What it means.";
    },
};

/// Availability-zone profiles.
pub(super) const AVAILABILITY_ZONE_PROFILE: Resource = Resource {
    component: "AvailabilityZoneProfile",
    root: "availability_zone_profile",
    root_list: "availability_zone_profiles",
    links: "availability_zone_profile_links",
    fields: fields! {
        [];
        "id": Uuid, Shown, Never, "Its id.";
        "name": Text(0, 255), NeededChanged, Never, "Its name; need not be unique.";
        "provider_name": Text(1, 255), NeededChanged, Never, "The provider that understands it.";
        "availability_zone_data": Text(1, 4096), NeededChanged, Never, "A JSON object, as a text.";
    },
};

/// Amphorae.
pub(super) const AMPHORA: Resource = Resource {
    component: "Amphora",
    root: "amphora",
    root_list: "amphorae",
    links: "amphorae_links",
    fields: fields! {
        [];
        "id": Uuid, Shown, Never, "Its id.";
        "loadbalancer_id": Uuid, Shown, Both, "The load balancer it carries, if it is the only one.";
        "loadbalancers": References, Shown, Never, "The load balancers it carries.";
        "compute_id": Text(0, 255), Shown, Both, "What the compute driver calls it.";
        "lb_network_ip": Address, Shown, Both, "Where its agent is reached.";
        "vrrp_ip": Address, Shown, Both, "Its own address on the VIP's network.";
        "ha_ip": Address, Shown, Both, "The VIP, if it carries a single load balancer.";
        "vrrp_port_id": Uuid, Shown, Both, "Its own port on the VIP's network.";
        "ha_port_id": Uuid, Shown, Both, "The port of the VIP, if it carries a single load balancer.";
        "cert_expiration": Time, Shown, Both, "When its certificate expires.";
        "cert_busy": Boolean, Shown, Never, "Whether its certificate is being replaced.";
        "role": Choice(&["STANDALONE", "MASTER", "BACKUP"]), Shown, Both, "Its role.";
        "status": Choice(STATUS), Shown, Never, "Whether it is there.";
        "vrrp_interface": Text(0, 16), Shown, Both, "Of VRRP; null when there is none.";
        "vrrp_id": Integer(1, 255), Shown, Both, "Of VRRP; null when there is none.";
        "vrrp_priority": Integer(1, 255), Shown, Both, "Of VRRP; null when there is none.";
        "cached_zone": Text(0, 255), Shown, Both, "The zone it is in.";
        "created_at": Time, Shown, Never, "When it was decided on.";
        "updated_at": Time, Shown, Both, "When its record last changed.";
        "image_id": Text(0, 36), Shown, Both, "Null: there are no images.";
        "compute_flavor": Text(0, 255), Shown, Both, "Null: there are no compute flavors.";
    },
};

const COUNT: super::field::Takes = Integer(-1, 2_000_000_000);
const STATUS: &[&str] = &[
    "PENDING_CREATE",
    "BOOTING",
    "ALLOCATED",
    "ERROR",
    "PENDING_DELETE",
];
