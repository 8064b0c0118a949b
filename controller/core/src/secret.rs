//! What load balancers need of the deployment's secret store, and what was found there.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
    vec::Vec,
};

use krater_amphora_api::CertificateSpec;

use crate::{
    model::{ClientAuthentication, Listener, ListenerProtocol, Pool, SecretRef},
    resource::ResourceId,
    tree::{LoadBalancerTree, Row},
};

/// What a secret is for, which says what it has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// A certificate with its key.
    Certificate,
    /// Certificates of those who vouch for others.
    Authorities,
    /// Lists of certificates that are no longer good.
    Revocations,
}

impl Purpose {
    /// A word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::Authorities => "authorities",
            Self::Revocations => "revocations",
        }
    }
}

/// A secret that somebody needs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Need {
    /// What for.
    pub purpose: Purpose,
    /// Where it lies.
    pub reference: SecretRef,
}

/// What secrets hold, as far as it was found. No `Debug`: keys are among it (I13).
#[derive(Clone, Default)]
pub struct Secrets {
    certificates: BTreeMap<SecretRef, CertificateSpec>,
    texts: BTreeMap<Need, String>,
}

impl Secrets {
    /// Adds a certificate with its key.
    pub fn add_certificate(&mut self, reference: SecretRef, certificate: CertificateSpec) {
        self.certificates.insert(reference, certificate);
    }

    /// Adds authorities or revocations, as PEM.
    pub fn add_text(&mut self, need: Need, pem: String) {
        self.texts.insert(need, pem);
    }

    /// The certificate of that reference.
    #[must_use]
    pub fn certificate(&self, reference: &SecretRef) -> Option<&CertificateSpec> {
        self.certificates.get(reference)
    }

    /// The authorities or revocations of that reference.
    #[must_use]
    pub fn text(&self, purpose: Purpose, reference: &SecretRef) -> Option<&String> {
        let need = Need {
            purpose,
            reference: reference.clone(),
        };
        self.texts.get(&need)
    }
}

/// What a tree needs to be compiled, and who needs it. Nothing of what is being deleted, and nothing that is stored
/// without effect.
#[must_use]
pub fn needs(tree: &LoadBalancerTree) -> Vec<(Need, ResourceId)> {
    collect(tree, of_listener, of_pool)
}

/// What a tree refers to, whether that has an effect now or not, and who does.
#[must_use]
pub fn references(tree: &LoadBalancerTree) -> Vec<(Need, ResourceId)> {
    collect(tree, references_of_listener, references_of_pool)
}

/// Authorities and revocations that go together in a tree: whoever is in a list must have been vouched for by them.
#[must_use]
pub fn pairs(tree: &LoadBalancerTree) -> BTreeSet<(SecretRef, SecretRef)> {
    let of_listeners = staying(&tree.listeners).filter_map(|listener| {
        listener
            .tls
            .client_ca
            .clone()
            .zip(listener.tls.client_crl.clone())
    });
    let of_pools =
        staying(&tree.pools).filter_map(|pool| pool.tls.ca.clone().zip(pool.tls.crl.clone()));
    of_listeners.chain(of_pools).collect()
}

fn collect(
    tree: &LoadBalancerTree,
    of_listener: fn(&Listener) -> Vec<Need>,
    of_pool: fn(&Pool) -> Vec<Need>,
) -> Vec<(Need, ResourceId)> {
    let listeners = staying(&tree.listeners).flat_map(|listener| {
        let id = ResourceId::Listener(listener.id);
        of_listener(listener)
            .into_iter()
            .map(move |need| (need, id))
    });
    let pools = staying(&tree.pools).flat_map(|pool| {
        let id = ResourceId::Pool(pool.id);
        of_pool(pool).into_iter().map(move |need| (need, id))
    });
    listeners.chain(pools).collect()
}

fn of_listener(listener: &Listener) -> Vec<Need> {
    let speaks = matches!(
        listener.protocol,
        ListenerProtocol::TerminatedHttps | ListenerProtocol::Prometheus
    ) && listener.tls.has_certificate();
    if !speaks {
        return Vec::new();
    }
    let asks = listener.tls.client_authentication != ClientAuthentication::None;
    let mut needs = references_of_listener(listener);
    needs.retain(|need| need.purpose == Purpose::Certificate || asks);
    needs
}

fn of_pool(pool: &Pool) -> Vec<Need> {
    if pool.tls.enabled {
        references_of_pool(pool)
    } else {
        Vec::new()
    }
}

fn references_of_listener(listener: &Listener) -> Vec<Need> {
    let tls = &listener.tls;
    let certificates = tls.certificate.iter().chain(&tls.sni_certificates);
    certificates
        .map(|reference| need(Purpose::Certificate, reference))
        .chain(
            tls.client_ca
                .iter()
                .map(|ca| need(Purpose::Authorities, ca)),
        )
        .chain(
            tls.client_crl
                .iter()
                .map(|crl| need(Purpose::Revocations, crl)),
        )
        .collect()
}

fn references_of_pool(pool: &Pool) -> Vec<Need> {
    let tls = &pool.tls;
    let certificate = tls.certificate.iter();
    certificate
        .map(|reference| need(Purpose::Certificate, reference))
        .chain(tls.ca.iter().map(|ca| need(Purpose::Authorities, ca)))
        .chain(tls.crl.iter().map(|crl| need(Purpose::Revocations, crl)))
        .collect()
}

fn need(purpose: Purpose, reference: &SecretRef) -> Need {
    Need {
        purpose,
        reference: reference.clone(),
    }
}

fn staying<T>(rows: &[Row<T>]) -> impl Iterator<Item = &T> {
    let staying = rows.iter().filter(|row| !row.is_leaving());
    staying.map(|row| &row.value)
}
