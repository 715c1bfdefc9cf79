//! The operator against a real API server, with the rights of the chart's roles and no others; and against the part of
//! one that serves custom resources, which can be had where the whole cannot. Leases are custom resources there; what is
//! left (nodes, events, namespaces) comes from our own.
//!
//! One test each: a server is started once, and each story goes on where the last one stopped.

use std::{io::Write as _, time::Duration};

use k8s_openapi::{
    api::{
        coordination::v1::Lease,
        core::v1::{Namespace, Node},
        events::v1::Event,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, Config,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use splitplace_k8s::{crds, look, model::EdgeModel, node::EdgeNode};
use splitplace_tests::{
    apiserver::{ADMIN, ApiServer, Extent, Programs},
    chart,
    cluster::Fake,
};

use crate::{Running, Story, cluster_node, model, refused, said_by, start_with, stored};

/// The account that the chart gives the operator.
const OPERATOR: (&str, &str, &str) = (
    "token-of-the-operator",
    "system:serviceaccount:edge:sp-splitplace-operator",
    "system:serviceaccounts",
);
/// The one Lease that its role lets it renew.
const LEASE: &str = "sp-splitplace-operator";

struct World {
    server: ApiServer,
    admin: Client,
    operator: Client,
}

/// Said past the test runner, which keeps what passing tests print.
fn skipped(what: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {what}");
}

/// The programs of a server, if this machine has them.
fn programs(extent: Extent, what: &str) -> Option<Programs> {
    let found = Programs::find(extent);
    found
        .map_err(|why| skipped(format_args!("the operator against a real {what}: {why}")))
        .ok()
}

async fn client(server: &ApiServer, token: &str) -> Client {
    let config = Kubeconfig::from_yaml(&server.kubeconfig("edge", token)).unwrap();
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(config, &options).await;
    Client::try_from(config.unwrap()).unwrap()
}

/// Asks again and again until there is something.
async fn until<T>(what: &str, mut ready: impl AsyncFnMut() -> Option<T>) -> T {
    let wait = async {
        loop {
            if let Some(found) = ready().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), wait)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"))
}

impl World {
    fn models(&self) -> Api<EdgeModel> {
        Api::namespaced(self.admin.clone(), "edge")
    }

    /// Waits until the server lets the admin in.
    async fn answers(&self) -> String {
        until("the API server answers", async || {
            let namespaces: Api<Namespace> = Api::all(self.admin.clone());
            namespaces.get("default").await.ok()?;
            self.admin.apiserver_version().await.ok()
        })
        .await
        .git_version
    }

    async fn object(&self, name: &str) -> Value {
        let found = self.models().get_opt(name).await.ok().flatten();
        found.map_or(Value::Null, |model| serde_json::to_value(model).unwrap())
    }

    async fn until_said(&self, name: &str, kind: &str, what: &str) {
        until(&format!("{name}: {kind} is {what}"), async || {
            let object = self.object(name).await;
            let is_current =
                object["status"]["observedGeneration"] == object["metadata"]["generation"];
            (is_current && said_by(&object, kind) == what).then_some(())
        })
        .await;
    }

    /// Applies an object's text, as a GitOps tool does: server-side, under a name of its own, without force.
    async fn apply(&self, path: &str, manager: &str, text: &str) -> Result<Value, kube::Error> {
        let request = http::Request::patch(format!("{path}?fieldManager={manager}"))
            .header("content-type", "application/apply-patch+yaml")
            .body(text.as_bytes().to_vec())
            .unwrap();
        self.admin.request(request).await
    }

    async fn put(&self, name: &str, spec: &Value) {
        let path = format!("/apis/splitplace.dev/v1alpha1/namespaces/edge/edgemodels/{name}");
        let applied = self
            .apply(&path, "gitops", &model(name, spec).to_string())
            .await;
        applied.unwrap();
    }

    async fn reasons(&self) -> Vec<String> {
        let events: Api<Event> = Api::namespaced(self.admin.clone(), "edge");
        let events = events.list(&ListParams::default()).await.unwrap();
        events
            .items
            .into_iter()
            .filter_map(|event| event.reason)
            .collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn against_a_real_api_server() {
    let Some(programs) = programs(Extent::Whole, "API server") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let server = ApiServer::start(programs, folder.path(), &[OPERATOR]).unwrap();
    let world = World {
        admin: client(&server, ADMIN).await,
        operator: client(&server, OPERATOR.0).await,
        server,
    };
    let version = world.answers().await;
    println!("Kubernetes {version}");
    definitions_are_taken_and_bad_objects_are_not(&world).await;
    the_chart_s_rights_are_granted(&world).await;
    stories(world).await;
}

/// What an operator lives through, once the server knows its resources.
async fn stories(mut world: World) {
    let center = Story::new();
    let first = start_with(world.operator.clone(), &center, LEASE, "first");
    a_model_is_served_and_everybody_is_told(&world, &center, &first).await;
    nobody_s_fields_are_fought_for(&world).await;
    nodes_are_written_and_cordoned_ones_are_held(&world, &center).await;
    a_server_that_dies_and_comes_back_is_watched_again(&mut world, &center).await;
    let second = leaders_change(&world, &center, first).await;
    a_model_drains_before_it_goes(&world, &center).await;
    second.stop().await;
}

/// Requests for these go to the real server, all others to ours.
const CUSTOM: [&str; 4] = [
    "/apis/apiextensions.k8s.io",
    "/apis/splitplace.dev",
    "/apis/coordination.k8s.io",
    "/version",
];

/// A client of both: custom resources are the real server's.
fn with_core(real: Client, fake: &Fake) -> Client {
    let core = crate::client(fake);
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let path = request.uri().path();
        let to = if CUSTOM.iter().any(|start| path.starts_with(start)) {
            real.clone()
        } else {
            core.clone()
        };
        async move { to.send(request).await }
    });
    Client::new(service, "edge")
}

/// Leases as a custom resource: their versions and conflicts are the real server's then.
fn leases() -> CustomResourceDefinition {
    serde_json::from_value(json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": "leases.coordination.k8s.io",
            "annotations": {"api-approved.kubernetes.io": "unapproved, of a test"},
        },
        "spec": {
            "group": "coordination.k8s.io",
            "scope": "Namespaced",
            "names": {"plural": "leases", "singular": "lease", "kind": "Lease", "listKind": "LeaseList"},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {
                    "type": "object", "x-kubernetes-preserve-unknown-fields": true,
                }},
            }],
        },
    }))
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn against_the_part_of_a_real_api_server_that_serves_custom_resources() {
    let Some(programs) = programs(Extent::CustomResources, "server of custom resources") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let server = ApiServer::start(programs, folder.path(), &[]).unwrap();
    let fake = Fake::new();
    for name in ["attic", "cellar"] {
        fake.put("nodes", cluster_node(name, &json!({})));
    }
    fake.put("namespaces", json!({"metadata": {"name": "default"}}));
    let both = with_core(client(&server, ADMIN).await, &fake);
    let world = World {
        admin: both.clone(),
        operator: both,
        server,
    };
    let version = world.answers().await;
    println!("Kubernetes {version}, custom resources");
    define(&world, leases()).await;
    definitions_are_taken_and_bad_objects_are_not(&world).await;
    stories(world).await;
}

async fn define(world: &World, definition: CustomResourceDefinition) {
    let definitions: Api<CustomResourceDefinition> = Api::all(world.admin.clone());
    let name = definition.metadata.name.clone().unwrap();
    let params = PatchParams::apply("test").force();
    let applied = definitions
        .patch(&name, &params, &Patch::Apply(&definition))
        .await;
    applied.unwrap();
    until("the definition is established", async || {
        let found = serde_json::to_value(definitions.get(&name).await.ok()?).ok()?;
        let mut conditions = found["status"]["conditions"].as_array()?.iter();
        conditions
            .any(|one| one["type"] == "Established" && one["status"] == "True")
            .then_some(())
    })
    .await;
}

async fn definitions_are_taken_and_bad_objects_are_not(world: &World) {
    let definitions: Api<CustomResourceDefinition> = Api::all(world.admin.clone());
    for (_, definition) in crds::all() {
        define(world, definition).await;
    }
    // What a server makes of them is no difference to `doctor`.
    for facts in look::definitions(&world.admin).await.unwrap() {
        assert_eq!(facts.drift, Some(Vec::new()), "{}", facts.name);
    }
    assert!(look::clock(&world.admin).await.unwrap().is_some());
    let namespaces: Api<Namespace> = Api::all(world.admin.clone());
    let edge = serde_json::from_value(json!({"metadata": {"name": "edge"}})).unwrap();
    namespaces
        .create(&PostParams::default(), &edge)
        .await
        .unwrap();
    // What the schema itself says, as plain JSON: our types would not let us write it.
    let make = async |spec: &Value| {
        let request = http::Request::post(
            "/apis/splitplace.dev/v1alpha1/namespaces/edge/edgemodels?dryRun=All",
        )
        .header("content-type", "application/json")
        .body(model("m", spec).to_string().into_bytes())
        .unwrap();
        world.admin.request::<Value>(request).await
    };
    until("the resource is served", async || {
        make(&stored()).await.ok()
    })
    .await;
    for (wrong, word) in [
        (
            json!({"source": {"stored": {}}, "variants": ["rounded"]}),
            "variants",
        ),
        (
            json!({"source": {"stored": {}}, "priority": 5000}),
            "priority",
        ),
        (
            json!({"source": {"http": {"url": "ftp://x/y", "digest": "sha256:0"}}}),
            "url",
        ),
        (
            json!({"source": {"stored": {}}, "exits": {"policy": "hasty"}}),
            "policy",
        ),
        (json!({}), "source"),
    ] {
        let said = make(&wrong).await.unwrap_err().to_string();
        assert!(said.contains(word), "{wrong}: {said}");
    }
    let kept = definitions.get("edgemodels.splitplace.dev").await.unwrap();
    if !serde_json::to_string(&kept)
        .unwrap()
        .contains("x-kubernetes-validations")
    {
        skipped(format_args!(
            "rules in CEL: this API server is too old to have them (1.25)"
        ));
        return;
    }
    for (wrong, why) in refused::by_rules() {
        let said = make(&wrong).await.unwrap_err().to_string();
        assert!(said.contains(why), "{wrong}: {said}");
    }
}

/// The roles as the chart makes them, and what they do not grant.
async fn the_chart_s_rights_are_granted(world: &World) {
    let mut granted = 0;
    for object in chart::rendered("default") {
        let text = |field: &Value| field.as_str().unwrap_or_default().to_owned();
        let (kind, name) = (text(&object["kind"]), text(&object["metadata"]["name"]));
        let plural = match kind.as_str() {
            "Role" => "namespaces/edge/roles",
            "RoleBinding" => "namespaces/edge/rolebindings",
            "ClusterRole" => "clusterroles",
            "ClusterRoleBinding" => "clusterrolebindings",
            _ => continue,
        };
        let path = format!("/apis/rbac.authorization.k8s.io/v1/{plural}/{name}");
        world
            .apply(&path, "helm", &object.to_string())
            .await
            .unwrap();
        granted += 1;
    }
    assert!(
        4 <= granted,
        "the chart has fewer roles than the operator needs"
    );
    let secrets: Api<k8s_openapi::api::core::v1::Secret> =
        Api::namespaced(world.operator.clone(), "edge");
    let refused = secrets.list(&ListParams::default()).await.unwrap_err();
    assert!(
        matches!(&refused, kube::Error::Api(status) if status.code == 403),
        "{refused}"
    );
}

async fn a_model_is_served_and_everybody_is_told(
    world: &World,
    center: &Story,
    operator: &Running,
) {
    world.put("clothes", &stored()).await;
    world.until_said("clothes", "Ready", "True Served").await;
    assert_eq!(center.calls(), ["load clothes"]);
    let object = world.object("clothes").await;
    assert_eq!(
        object["metadata"]["finalizers"],
        json!(["splitplace.dev/drain"])
    );
    assert_eq!(
        object["status"]["endpoints"][0]["address"],
        "sp-splitplace.edge.svc:8001"
    );
    assert_eq!(object["status"]["loss"], "1.0%");
    until("an event says that it is placed", async || {
        world
            .reasons()
            .await
            .iter()
            .any(|reason| reason == "Placed")
            .then_some(())
    })
    .await;
    // Every right that it needed was granted.
    let errors = operator
        .pulse
        .errors
        .load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(errors, 0);
}

async fn nobody_s_fields_are_fought_for(world: &World) {
    // The GitOps tool goes on applying what it owns, however often the operator wrote.
    world
        .put("clothes", &json!({"source": {"stored": {}}, "priority": 2}))
        .await;
    world.until_said("clothes", "Ready", "True Served").await;
    world
        .put("clothes", &json!({"source": {"stored": {}}, "priority": 3}))
        .await;
    world.until_said("clothes", "Ready", "True Served").await;
    let managers = world
        .models()
        .get("clothes")
        .await
        .unwrap()
        .metadata
        .managed_fields;
    let managers: Vec<String> = managers
        .unwrap()
        .into_iter()
        .filter_map(|one| one.manager)
        .collect();
    for wanted in ["gitops", "splitplace-operator"] {
        assert!(managers.iter().any(|one| one == wanted), "{managers:?}");
    }
    // Who wants a field of the operator's is told who has it.
    let mut foreign = model("clothes", &stored());
    foreign["status"] = json!({"loss": "none"});
    let path = "/apis/splitplace.dev/v1alpha1/namespaces/edge/edgemodels/clothes/status";
    let refused = world
        .apply(path, "gitops", &foreign.to_string())
        .await
        .unwrap_err();
    let is_conflict = matches!(&refused, kube::Error::Api(status) if status.code == 409);
    assert!(
        is_conflict && refused.to_string().contains("splitplace-operator"),
        "{refused}"
    );
}

async fn node_label(world: &World, name: &str) -> Option<String> {
    let nodes: Api<Node> = Api::all(world.admin.clone());
    let labels = nodes.get(name).await.ok()?.metadata.labels;
    labels.unwrap_or_default().remove("splitplace.dev/hold")
}

async fn nodes_are_written_and_cordoned_ones_are_held(world: &World, center: &Story) {
    for name in ["attic", "cellar"] {
        let path = format!("/api/v1/nodes/{name}");
        world
            .apply(
                &path,
                "kubelet",
                &cluster_node(name, &json!({})).to_string(),
            )
            .await
            .unwrap();
    }
    let nodes: Api<EdgeNode> = Api::namespaced(world.admin.clone(), "edge");
    let state = async |name: &str| {
        let status = nodes.get(name).await.ok()?.status?;
        Some(format!("{} {}", status.state, status.reason))
    };
    until("both are alive", async || {
        let both = [state("attic").await?, state("cellar").await?];
        (both == ["Alive Session", "Alive Session"]).then_some(())
    })
    .await;
    // Somebody has a use of their own for the label: it stays what they made it.
    let mut own = cluster_node("attic", &json!({}));
    own["metadata"]["labels"] = json!({"splitplace.dev/hold": "maintenance"});
    world
        .apply("/api/v1/nodes/attic", "people", &own.to_string())
        .await
        .unwrap();
    for name in ["attic", "cellar"] {
        let path = format!("/api/v1/nodes/{name}");
        let cordoned = cluster_node(name, &json!({"unschedulable": true}));
        world
            .apply(&path, "kubectl", &cordoned.to_string())
            .await
            .unwrap();
    }
    until("the cordoned node is held", async || {
        (node_label(world, "cellar").await.as_deref() == Some("operator")).then_some(())
    })
    .await;
    until("both are leaving", async || {
        let both = [state("attic").await?, state("cellar").await?];
        both.iter()
            .all(|state| state.starts_with("Leaving"))
            .then_some(())
    })
    .await;
    assert_eq!(
        node_label(world, "attic").await.as_deref(),
        Some("maintenance")
    );
    world
        .apply(
            "/api/v1/nodes/cellar",
            "kubectl",
            &cluster_node("cellar", &json!({})).to_string(),
        )
        .await
        .unwrap();
    until("it is let back", async || {
        node_label(world, "cellar").await.is_none().then_some(())
    })
    .await;
    // A node that the orchestrator forgets and the cluster never had loses its resource.
    center.change(|seen| {
        let mut more = seen.nodes[0].clone();
        more.name = "shed".into();
        seen.nodes.push(more);
    });
    until("a node without a cluster node is shown", async || {
        state("shed").await
    })
    .await;
    center.change(|seen| seen.nodes.retain(|node| node.name != "shed"));
    until("and goes", async || {
        nodes.get_opt("shed").await.ok()?.is_none().then_some(())
    })
    .await;
}

async fn a_server_that_dies_and_comes_back_is_watched_again(world: &mut World, center: &Story) {
    world.server.kill().unwrap();
    world.server.run().unwrap();
    world.answers().await;
    until("what was defined is served again", async || {
        let models = world.models().list(&ListParams::default()).await;
        models.ok().map(drop)
    })
    .await;
    world.put("shoes", &stored()).await;
    world.until_said("shoes", "Ready", "True Served").await;
    // What was served stays so: nothing was asked twice.
    let calls = center.calls();
    let loads = calls.iter().filter(|call| *call == "load shoes").count();
    assert_eq!(loads, 1, "{calls:?}");
    assert!(
        !calls.iter().any(|call| call.starts_with("unload")),
        "{calls:?}"
    );
}

async fn holder(world: &World) -> String {
    let leases: Api<Lease> = Api::namespaced(world.admin.clone(), "edge");
    let lease = leases.get(LEASE).await.ok();
    let spec = lease.and_then(|lease| lease.spec).unwrap_or_default();
    spec.holder_identity.unwrap_or_default()
}

async fn leaders_change(world: &World, center: &Story, first: Running) -> Running {
    until("the first leads", async || {
        (holder(world).await == "first").then_some(())
    })
    .await;
    // One that dies is followed when its Lease has run out; one that stops, at once.
    let second = start_with(world.operator.clone(), center, LEASE, "second");
    first.kill();
    until("the second leads", async || {
        (holder(world).await == "second").then_some(())
    })
    .await;
    let third = start_with(world.operator.clone(), center, LEASE, "third");
    second.stop().await;
    until("the third leads", async || {
        (holder(world).await == "third").then_some(())
    })
    .await;
    world.put("hats", &stored()).await;
    world.until_said("hats", "Ready", "True Served").await;
    third
}

async fn a_model_drains_before_it_goes(world: &World, center: &Story) {
    center.is_slow(true);
    let gone = world
        .models()
        .delete("hats", &DeleteParams::default())
        .await;
    gone.unwrap();
    until("it drains", async || {
        let object = world.object("hats").await;
        (said_by(&object, "Ready") == "False Draining").then_some(())
    })
    .await;
    assert!(world.object("hats").await["metadata"]["deletionTimestamp"].is_string());
    center.change(|seen| {
        seen.in_flight = 0;
        seen.models.retain(|model| model.name != "hats");
    });
    until("it is gone", async || {
        world.object("hats").await.is_null().then_some(())
    })
    .await;
    until("an event says so", async || {
        world
            .reasons()
            .await
            .iter()
            .any(|reason| reason == "Drained")
            .then_some(())
    })
    .await;
}
