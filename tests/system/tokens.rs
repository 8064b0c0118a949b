//! Several projects on one host, told apart by a file of tokens.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command, time::Duration};

use krater_tests::{Krater, Namespace, binary, run_to_end, until};
use serde_json::json;
use tempfile::TempDir;

/// What `krater token new` says: the token, and its hash for the file.
fn new_token() -> (String, String) {
    let (status, text) = krater(&["token", "new"], None);
    assert!(status, "{text}");
    let mut values = text.split('"').skip(1).step_by(2).map(str::to_owned);
    let (token, hash) = (values.next(), values.next());
    (token.expect("a token"), hash.expect("its hash"))
}

fn row(hash: &str, user: &str, project: &str, role: &str) -> String {
    format!(
        "[[token]]\nsha256 = \"{hash}\"\nuser = \"{user}\"\nproject = \"{project}\"\nroles = [\"{role}\"]\n"
    )
}

/// Writes the file as a person would who takes care: readable by its owner alone.
fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("the file can be written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("its mode is set");
}

fn krater(arguments: &[&str], token: Option<&str>) -> (bool, String) {
    let mut command = Command::new(binary("krater"));
    command.args(arguments).env_remove("OS_TOKEN");
    if let Some(token) = token {
        command.env("KRATER_TOKEN", token);
    }
    let (status, text) = run_to_end(&mut command, Duration::from_secs(30));
    (status.success(), text)
}

/// A krater that believes a file of tokens: ann of the project web, bob of shop, and root, who may everything.
struct Rig {
    _network: Namespace,
    folder: TempDir,
    server: Krater,
    ann: String,
    bob: String,
    root: String,
}

impl Rig {
    fn up() -> Self {
        let network = Namespace::enter_new();
        let folder = tempfile::tempdir().expect("a folder");
        let [ann, bob, root] = [new_token(), new_token(), new_token()];
        let rows = row(&ann.1, "ann", "web", "member")
            + &row(&bob.1, "bob", "shop", "member")
            + &row(&root.1, "root", "house", "admin");
        let (tokens, settings) = (
            folder.path().join("tokens.toml"),
            folder.path().join("krater.toml"),
        );
        write(&tokens, &rows);
        let text = format!(
            "[auth]\ndriver = \"file\"\n[auth.file]\npath = \"{}\"\n",
            tokens.display()
        );
        write(&settings, &text);
        Self {
            _network: network,
            server: Krater::start("up", &["--config", &settings.to_string_lossy()]),
            folder,
            ann: ann.0,
            bob: bob.0,
            root: root.0,
        }
    }

    /// Makes a load balancer of ann's with a listener; gives its id.
    fn of_ann(&self) -> String {
        let listeners = json!([{"name": "l", "protocol": "HTTP", "protocol_port": 80}]);
        let mut api = self.server.api().with_token(&self.ann);
        let tree = api.create_tree("annes", &listeners);
        assert_eq!(tree["project_id"], "web");
        tree["id"].as_str().expect("an id").to_owned()
    }
}

#[test]
fn a_token_of_another_project_sees_nothing() {
    let rig = Rig::up();
    let id = rig.of_ann();
    let mut ann = rig.server.api().with_token(&rig.ann);
    let mut bob = rig.server.api().with_token(&rig.bob);
    for (path, list) in [
        ("loadbalancers", "loadbalancers"),
        ("listeners", "listeners"),
        ("pools", "pools"),
        ("healthmonitors", "healthmonitors"),
        ("/v2.0/ports", "ports"),
    ] {
        assert_eq!(bob.get(path)[list], json!([]), "{path}");
    }
    for path in ["", "/status", "/stats"] {
        let path = format!("loadbalancers/{id}{path}");
        bob.call("GET", &path, None).expect(403);
        ann.call("GET", &path, None).expect(200);
    }
    let all = format!("loadbalancers/{id}?cascade=true");
    bob.call("DELETE", &all, None).expect(403);
    bob.call("GET", "loadbalancers?project_id=web", None)
        .expect(403);
    let mut root = rig.server.api().with_token(&rig.root);
    assert_eq!(
        root.get("loadbalancers?project_id=web")["loadbalancers"][0]["id"],
        id.as_str()
    );
    let mut nobody = rig.server.api();
    nobody.call("GET", "loadbalancers", None).expect(401);
    assert!(!rig.server.output().contains(&rig.ann));
}

#[test]
fn the_terminal_takes_a_token() {
    let rig = Rig::up();
    rig.of_ann();
    let (listed, text) = krater(&["lb", "list"], Some(&rig.ann));
    assert!(listed && text.contains("annes"), "{text}");
    let (listed, text) = krater(&["lb", "list"], Some(&rig.bob));
    assert!(listed && !text.contains("annes"), "{text}");
    let (listed, text) = krater(&["lb", "list"], None);
    assert!(!listed && text.contains("KRATER_TOKEN"), "{text}");
    let (listed, text) = krater(&["amphora", "list"], Some(&rig.ann));
    assert!(!listed && text.contains("403"), "{text}");
    let (listed, text) = krater(&["amphora", "list", "--token", &rig.root], None);
    assert!(listed, "{text}");
}

#[test]
fn a_changed_file_of_tokens_counts_without_a_restart() {
    let rig = Rig::up();
    let id = rig.of_ann();
    let (token, hash) = new_token();
    let mut late = rig.server.api().with_token(&token);
    late.call("GET", "loadbalancers", None).expect(401);
    write(
        &rig.folder.path().join("tokens.toml"),
        &row(&hash, "late", "web", "reader"),
    );
    until("the new file counts", Duration::from_secs(10), || {
        late.call("GET", "loadbalancers", None).status == 200
    });
    let mut ann = rig.server.api().with_token(&rig.ann);
    ann.call("GET", "loadbalancers", None).expect(401);
    let all = format!("loadbalancers/{id}?cascade=true");
    late.call("DELETE", &all, None).expect(403);
}
