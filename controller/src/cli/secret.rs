//! `krater secret …`: the folder of secrets.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use krater_controller_core::{
    model::ProjectId,
    secret::{Need, Purpose},
};
use krater_driver::{
    CertificateFacts, Parts, RawSecret, SECRET_BYTES_MAX, Secret, SecretStore as _,
};
use krater_driver_local::{Drawer, FileSecrets, Shelf};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{From, Output, Settings, fail, refuse, say, show, table};
use crate::{
    clock,
    config::{Config, auth::Auth},
};

#[derive(Subcommand)]
pub(super) enum SecretVerb {
    /// Check a certificate with its key, or what vouches for others, and lay it into the folder of secrets. Listeners
    /// and pools that refer to it have it within a second.
    Add(Box<Add>),
    /// List the secrets in the folder.
    List {
        #[command(flatten)]
        place: Place,
    },
    /// Show what may be told of a secret.
    Show {
        /// Its name.
        name: String,
        #[command(flatten)]
        whose: Whose,
        #[command(flatten)]
        place: Place,
    },
    /// Take a secret out of the folder. Those who use it keep what they have until they change.
    Remove {
        /// Its name.
        name: String,
        #[command(flatten)]
        whose: Whose,
        #[command(flatten)]
        place: Place,
    },
    /// Have a running controller read all secrets in use again.
    Refresh {
        #[command(flatten)]
        from: From,
    },
}

/// What is laid in.
#[derive(Args)]
pub(super) struct Add {
    /// The name that listeners and pools refer to it by.
    name: String,
    #[command(flatten)]
    what: What,
    /// The private key of the certificate (PEM), if it is not in the same file.
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
    /// Certificates that lead to the authority (PEM), if they are not in the same file.
    #[arg(long, value_name = "FILE", requires = "certificate")]
    chain: Option<PathBuf>,
    /// Take a certificate that is no longer valid.
    #[arg(long)]
    allow_expired: bool,
    #[command(flatten)]
    whose: Whose,
    #[command(flatten)]
    place: Place,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct What {
    /// A certificate (PEM), with or without the chain and the key.
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// A certificate with key and chain as PKCS#12, without a passphrase.
    #[arg(long, value_name = "FILE")]
    pkcs12: Option<PathBuf>,
    /// Certificates of authorities (PEM).
    #[arg(long, value_name = "FILE")]
    authorities: Option<PathBuf>,
    /// Lists of revoked certificates (PEM).
    #[arg(long, value_name = "FILE")]
    revocations: Option<PathBuf>,
}

/// Who may use it.
#[derive(Args)]
#[group(multiple = false)]
pub(super) struct Whose {
    /// Only load balancers of this project may use it.
    #[arg(long, short, value_name = "ID")]
    project: Option<String>,
    /// Those of all projects may use it [default where nobody is asked who they are].
    #[arg(long)]
    shared: bool,
}

/// Which folder, and how to show what is in it.
#[derive(Args)]
pub(super) struct Place {
    #[command(flatten)]
    settings: Settings,
    /// How to show the answer.
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    output: Output,
}

pub(super) fn run(verb: SecretVerb) -> ExitCode {
    match verb {
        SecretVerb::Add(add) => {
            let Add {
                name,
                what,
                key,
                chain,
                allow_expired,
                whose,
                place,
            } = *add;
            let given = Given {
                what,
                key,
                chain,
                allow_expired,
            };
            place.with(|config, shelf| {
                add_secret(&name, given, &whose.drawer(config)?, shelf, place.output)
            })
        }
        SecretVerb::List { place } => place.with(|_, shelf| list(shelf, place.output)),
        SecretVerb::Show { name, whose, place } => place.with(|config, shelf| {
            let drawer = whose.drawer(config)?;
            show_secret(&name, &drawer, &folder(config)?, shelf, place.output)
        }),
        SecretVerb::Remove { name, whose, place } => place.with(|config, shelf| {
            shelf.remove(&whose.drawer(config)?, &name)?;
            Ok(match place.output {
                Output::Json => format!("{}\n", json!({"removed": name})),
                Output::Table => format!("{name} is removed\n"),
            })
        }),
        SecretVerb::Refresh { from } => show(refresh(from)),
    }
}

async fn refresh(from: From) -> anyhow::Result<String> {
    let answer = from
        .client()?
        .ask(http::Method::POST, "/krater/v1/secrets/refresh", None)
        .await?;
    Ok(match from.output {
        Output::Json => format!("{answer}\n"),
        Output::Table => "all secrets in use are read again\n".to_owned(),
    })
}

struct Given {
    what: What,
    key: Option<PathBuf>,
    chain: Option<PathBuf>,
    allow_expired: bool,
}

impl Place {
    fn with(&self, body: impl FnOnce(&Config, &Shelf) -> anyhow::Result<String>) -> ExitCode {
        let config = match self.settings.load() {
            Ok(config) => config,
            Err(flaws) => return refuse(&flaws),
        };
        let done = folder(&config).and_then(|folder| body(&config, &Shelf::new(folder)));
        match done {
            Ok(text) => {
                say(&text);
                ExitCode::SUCCESS
            }
            Err(error) => fail(&error),
        }
    }
}

fn folder(config: &Config) -> anyhow::Result<PathBuf> {
    let folder = config.secrets.folder(&config.state_dir);
    folder.context("secrets are not in a folder with these settings (secrets.driver)")
}

impl Whose {
    fn drawer(&self, config: &Config) -> anyhow::Result<Drawer> {
        if let Some(id) = &self.project {
            let project =
                ProjectId::parse(id).context("the id of a project has 1 to 36 characters")?;
            return Ok(Drawer::Of(project));
        }
        if self.shared || config.auth == Auth::None {
            return Ok(Drawer::Shared);
        }
        bail!("say who may use it: --project ID, or --shared for load balancers of all projects")
    }
}

fn add_secret(
    name: &str,
    given: Given,
    drawer: &Drawer,
    shelf: &Shelf,
    output: Output,
) -> anyhow::Result<String> {
    let (purpose, raw) = raw(&given)?;
    let secret = Secret::read(purpose, &raw)?;
    if let Some(facts) = secret.facts()
        && facts.not_after < clock::now()
        && !given.allow_expired
    {
        bail!(
            "the certificate was valid until {} only; --allow-expired takes it all the same",
            facts.not_after
        );
    }
    let pem = match &secret {
        Secret::Certificate(certificate) => Zeroizing::new(format!(
            "{}{}",
            certificate.spec.chain,
            certificate.spec.key.expose()
        )),
        Secret::Authorities(pem) | Secret::Revocations(pem) => Zeroizing::new(pem.clone()),
    };
    let path = shelf.put(drawer, name, pem.as_bytes())?;
    let mut document = document(name, drawer.folder().unwrap_or_default(), purpose, &secret);
    if let Some(object) = document.as_object_mut() {
        object.insert("path".to_owned(), json!(path.display().to_string()));
    }
    Ok(printed(&document, output))
}

fn raw(given: &Given) -> anyhow::Result<(Purpose, RawSecret)> {
    let whole = |path: &Path| Ok::<_, anyhow::Error>(RawSecret::Whole(read(path)?));
    let What {
        certificate,
        pkcs12,
        authorities,
        revocations,
    } = &given.what;
    Ok(match (certificate, pkcs12, authorities, revocations) {
        (Some(path), ..) => {
            let raw = if given.key.is_none() && given.chain.is_none() {
                whole(path)?
            } else {
                let certificate = read(path)?;
                let key = match &given.key {
                    Some(key) => read(key)?,
                    None => certificate.clone(),
                };
                let intermediates = given.chain.as_deref().map(read).transpose()?;
                RawSecret::Parts(Box::new(Parts {
                    certificate: certificate.to_vec(),
                    intermediates: intermediates.map(|bytes| bytes.to_vec()),
                    key,
                    passphrase: None,
                }))
            };
            (Purpose::Certificate, raw)
        }
        (_, Some(path), ..) => (Purpose::Certificate, whole(path)?),
        (_, _, Some(path), _) => (Purpose::Authorities, whole(path)?),
        (_, _, _, Some(path)) => (Purpose::Revocations, whole(path)?),
        _ => bail!("nothing is to be laid in"),
    })
}

fn read(path: &Path) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::new());
    let file = File::open(path).with_context(|| format!("{} cannot be opened", path.display()))?;
    file.take(SECRET_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("{} cannot be read", path.display()))?;
    Ok(bytes)
}

fn list(shelf: &Shelf, output: Output) -> anyhow::Result<String> {
    let all = shelf.list()?;
    if output == Output::Json {
        let all: Vec<Value> = all
            .iter()
            .map(|one| json!({"name": one.name, "for": one.drawer, "exposed": one.exposed}))
            .collect();
        return Ok(format!("{}\n", json!({"secrets": all})));
    }
    let rows: Vec<Vec<String>> = all
        .into_iter()
        .map(|one| {
            let note = if one.exposed {
                "others of this host can read it"
            } else {
                ""
            };
            vec![one.name, one.drawer, note.to_owned()]
        })
        .collect();
    Ok(table::columns(&["NAME", "FOR", ""], &rows))
}

fn show_secret(
    name: &str,
    drawer: &Drawer,
    folder: &Path,
    shelf: &Shelf,
    output: Output,
) -> anyhow::Result<String> {
    let label = drawer.folder().unwrap_or_default();
    let listed = shelf.list()?;
    if !listed
        .iter()
        .any(|one| one.name == name && one.drawer == label)
    {
        bail!("there is no secret {name}");
    }
    let reader = match drawer {
        Drawer::Of(project) => project.clone(),
        Drawer::Shared => ProjectId::parse("-").context("nobody can read it")?,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    let store = FileSecrets::new(folder.to_owned());
    let mut reason = None;
    for purpose in [
        Purpose::Certificate,
        Purpose::Authorities,
        Purpose::Revocations,
    ] {
        let reference = krater_controller_core::model::SecretRef::parse(name.to_owned());
        let need = Need {
            purpose,
            reference: reference.context("it has no name")?,
        };
        match runtime.block_on(store.fetch(&reader, &need)) {
            Ok(raw) => match Secret::read(purpose, &raw) {
                Ok(secret) => {
                    return Ok(printed(&document(name, label, purpose, &secret), output));
                }
                Err(unusable) => {
                    reason.get_or_insert_with(|| unusable.to_string());
                }
            },
            Err(error) => {
                reason.get_or_insert_with(|| error.to_string());
            }
        }
    }
    bail!("{name}: {}", reason.unwrap_or_default())
}

fn document(name: &str, drawer: &str, purpose: Purpose, secret: &Secret) -> Value {
    let digest: String = secret
        .digest()
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let mut document = json!({
        "name": name, "for": drawer, "kind": purpose.name(), "digest": digest,
    });
    if let (Some(object), Some(facts)) = (document.as_object_mut(), secret.facts()) {
        let CertificateFacts {
            subject,
            issuer,
            names,
            not_before,
            not_after,
            fingerprint,
            chain,
            reordered,
            linked,
        } = facts;
        for (key, value) in [
            ("subject", json!(subject)),
            ("issuer", json!(issuer)),
            ("names", json!(names)),
            ("not_before", json!(not_before.to_string())),
            ("not_after", json!(not_after.to_string())),
            ("fingerprint", json!(fingerprint)),
            ("certificates", json!(chain)),
            ("reordered", json!(reordered)),
            ("linked", json!(linked)),
        ] {
            object.insert(key.to_owned(), value);
        }
    }
    document
}

fn printed(document: &Value, output: Output) -> String {
    if output == Output::Json {
        return format!("{document}\n");
    }
    let rows = document.as_object().into_iter().flatten();
    let rows: Vec<Vec<String>> = rows
        .map(|(key, value)| {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Array(all) => {
                    let texts = all.iter().filter_map(Value::as_str);
                    texts.collect::<Vec<_>>().join(", ")
                }
                other => other.to_string(),
            };
            vec![key.clone(), text]
        })
        .collect();
    let mut text = table::columns(&["FIELD", "VALUE"], &rows);
    if document["linked"] == json!(false) {
        text.push_str(
            "The certificates do not lead from one to the next: clients may not trust them.\n",
        );
    }
    text
}
