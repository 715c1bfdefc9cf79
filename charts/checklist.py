"""What operators expect of a chart, sentence by sentence, each with what shows it in the rendered objects.

`charts/check.py` runs it; whoever breaks one of these sentences is told which.
"""

import json
import re

LABELS = ["name", "instance", "version", "component", "part-of", "managed-by"]
WORKLOADS = ("StatefulSet", "DaemonSet", "Deployment")


def pods(objects):
    """Every pod template with its container list, jobs and tests too."""
    for one in objects:
        spec = one.get("spec", {})
        if one["kind"] == "Pod":
            yield one, spec
        elif one["kind"] in (*WORKLOADS, "Job"):
            yield one, spec["template"]["spec"]


def kind(objects, *kinds):
    return [one for one in objects if one["kind"] in kinds]


def named(objects, a_kind, ending):
    return next((o for o in objects if o["kind"] == a_kind and o["metadata"]["name"].endswith(ending)), None)


def checklist(root, chart_yaml, chart, render):
    """Sentences and whether they hold. `render(case, *arguments)` gives objects."""
    default, extreme, bare = (render(case) for case in ("default", "extreme", "bare"))
    standby = render("default", "--set", "orchestrator.standby.enabled=true")
    notes = (chart / "templates/NOTES.txt").read_text()
    helpers = (chart / "templates/_helpers.tpl").read_text()
    schema = json.loads((chart / "values.schema.json").read_text())
    values = (chart / "values.yaml").read_text()
    ci = (root / "charts/check.py").read_text()
    annotations = chart_yaml.get("annotations", {})

    # Chart.yaml
    yield "Chart.yaml is of version 2, with kubeVersion and appVersion", (
        chart_yaml["apiVersion"] == "v2" and ">=" in chart_yaml["kubeVersion"] and chart_yaml["appVersion"])
    yield "Chart.yaml has an icon and maintainers", chart_yaml.get("icon") and chart_yaml.get("maintainers")
    yield "Chart.yaml names images and changes", {"artifacthub.io/images", "artifacthub.io/changes"} <= set(annotations)

    # Values
    keys = re.findall(r"^ *([A-Za-z0-9_-]+):", values, re.M)
    foreign = {"name", "key", "operator"}
    yield "values are in camelCase", all(re.fullmatch(r"[a-z][A-Za-z0-9]*|[a-z_]+", k) for k in keys if k not in foreign)
    yield "the schema refuses words that it does not know", schema["additionalProperties"] is False

    # `global` alone is open: a parent chart puts its own words there.
    def closed(node):
        if isinstance(node, dict):
            if node.get("type") == "object" and "properties" in node and node.get("additionalProperties") is not False:
                return False
            return all(closed(inner) for inner in node.values())
        return all(closed(inner) for inner in node) if isinstance(node, list) else True

    yield "and so on every level", closed({**schema, "properties": {k: v for k, v in schema["properties"].items() if k != "global"}})
    yield "helpers make name, fullname and labels", all(f'"splitplace.{h}"' in helpers for h in ("name", "fullname", "labels"))
    ours = [o for o in extreme if o["kind"] not in ("CustomResourceDefinition",)]
    yield "every object has the six recommended labels", all(
        f"app.kubernetes.io/{label}" in o["metadata"].get("labels", {}) for o in ours for label in LABELS)
    yield "common labels reach every object", all(o["metadata"]["labels"].get("team") == "vision" for o in ours)

    # For people
    yield "the notes give the exact client command", "splitplace infer" in notes and "port-forward" in notes
    test = [o for o in default if o["metadata"].get("annotations", {}).get("helm.sh/hook") == "test"]
    steps = [c["args"][0] for o in test for c in o["spec"]["initContainers"] + o["spec"]["containers"]]
    yield "the test asks whether the server is ready, shows the placement, and infers", steps == ["health", "status", "infer"]

    # Definitions
    crds = kind(default, "CustomResourceDefinition")
    yield "definitions are templated, and kept at an uninstall", crds and all(
        o["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep" for o in crds)
    off = render("default", "--set", "crds.install=false")
    yield "definitions can be left to others", not kind(off, "CustomResourceDefinition")
    yield "their upgrade is documented", "k8s/crds" in (root / "docs/kubernetes-operations.md").read_text()

    # Images
    images = {c["image"] for _, pod in pods(extreme) for c in pod["containers"] + pod.get("initContainers", [])}
    yield "one registry before every image, a digest beats the tag", images and all(
        i.startswith("registry.local:5000/splitplace@sha256:") for i in images)
    yield "pull policy and pull secrets reach every pod", all(
        pod["imagePullSecrets"] == [{"name": "pull"}] and all(c["imagePullPolicy"] == "Never" for c in pod["containers"])
        for _, pod in pods(extreme))

    # Probes
    def probes(objects, workload):
        return [c for o, pod in pods(objects) if o["kind"] == workload for c in pod["containers"]]

    for workload in ("StatefulSet", "DaemonSet"):
        found = probes(default, workload)
        yield f"{workload}: startup, readiness and liveness are distinct", found and all(
            c["startupProbe"] and c["livenessProbe"] and c["readinessProbe"] and
            {k: v for k, v in c["livenessProbe"].items() if k in ("exec", "httpGet", "tcpSocket")}
            != {k: v for k, v in c["readinessProbe"].items() if k in ("exec", "httpGet", "tcpSocket")} for c in found)
    yield "Deployment: liveness and readiness are distinct", all(
        c["livenessProbe"]["httpGet"]["path"] != c["readinessProbe"]["httpGet"]["path"] for c in probes(default, "Deployment"))

    # Security
    def restricted(objects):
        for _, pod in pods(objects):
            context = pod["securityContext"]
            yield context["runAsNonRoot"] and context["seccompProfile"]["type"] == "RuntimeDefault"
            for container in pod["containers"] + pod.get("initContainers", []):
                own = container["securityContext"]
                yield own["readOnlyRootFilesystem"] and own["allowPrivilegeEscalation"] is False
                yield own["capabilities"]["drop"] == ["ALL"]

    yield "every container is of the restricted standard, with a read-only root", all(
        all(restricted(objects)) for objects in (default, extreme, bare))
    yield "resources are set everywhere", all(
        c["resources"].get("requests") and c["resources"].get("limits")
        for objects in (default, extreme, bare) for _, pod in pods(objects) for c in pod["containers"])
    guaranteed = [c["resources"] for o, pod in pods(extreme) if o["metadata"]["name"].endswith("worker-big") for c in pod["containers"]]
    yield "workers can be of the Guaranteed class", guaranteed and all(
        r["requests"] == r["limits"] and {"cpu", "memory"} <= set(r["limits"]) for r in guaranteed)
    accounts = {o["metadata"]["name"] for o in kind(default, "ServiceAccount")}
    yield "each part has an account of its own", {f"sp-splitplace-{p}" for p in ("orchestrator", "worker", "operator")} <= accounts
    yield "workers get no token", all(
        pod["automountServiceAccountToken"] is False for o, pod in pods(extreme) if o["kind"] == "DaemonSet")
    wide = [rule for o in kind(extreme, "Role", "ClusterRole") for rule in o["rules"]]
    yield "no role grants everything", not any("*" in r["verbs"] + r["resources"] + r["apiGroups"] for r in wide)

    # Network
    policies = {o["metadata"]["name"].removeprefix("sp-splitplace-"): o["spec"] for o in kind(default, "NetworkPolicy")}
    everybody = policies.get("default", {})
    yield "everything is refused that is not allowed", (
        set(everybody.get("policyTypes", [])) == {"Ingress", "Egress"} and not everybody.get("ingress")
        and "component" not in str(everybody["podSelector"]))

    def allows(policy, component, port):
        return any(
            any(p.get("port") == port for p in rule["ports"]) and f"'app.kubernetes.io/component': '{component}'" in str(rule.get("from"))
            for rule in policies[policy]["ingress"])

    yield "workers reach workers", allows("worker", "worker", "data")
    yield "the orchestrator reaches workers", allows("worker", "orchestrator", "data")
    yield "workers reach the orchestrator", allows("orchestrator", "worker", "workers")
    yield "metrics may be scraped", all(
        any(p.get("port") == "metrics" for rule in policies[part]["ingress"] for p in rule["ports"])
        for part in ("orchestrator", "worker", "operator"))
    yield "policies can be switched off", not kind(render("default", "--set", "networkPolicy.enabled=false"), "NetworkPolicy")

    # Disruption and scheduling
    budgets = {o["metadata"]["name"] for o in kind(standby, "PodDisruptionBudget")}
    yield "workers and orchestrators have budgets of disruption", budgets == {"sp-splitplace-orchestrator", "sp-splitplace-worker"}
    worker = next(o for o in kind(standby, "PodDisruptionBudget") if o["metadata"]["name"].endswith("-worker"))
    yield ("the budget of a DaemonSet's pods is a number of them, the only form that works",
           isinstance(worker["spec"].get("minAvailable"), int) and "maxUnavailable" not in worker["spec"])
    yield "workers are a DaemonSet for each pool", {o["metadata"]["name"] for o in kind(extreme, "DaemonSet")} == {
        "edge-ai-worker-big", "edge-ai-worker-rack", "edge-ai-worker-small"}
    terms = [term for pool in kind(extreme, "DaemonSet") for term in pool["spec"]["template"]["spec"]["affinity"][
        "nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]]
    yield "a held node is left whatever else an affinity asks for", len(terms) == 4 and all(
        {"key": "splitplace.dev/hold", "operator": "DoesNotExist"} in term["matchExpressions"] for term in terms)
    knobs = {"nodeSelector", "tolerations", "affinity", "priorityClassName"}
    properties = schema["properties"]
    yield "node selector, tolerations, affinity, priority class for each part", all(
        knobs <= set(properties[part]["properties"]) for part in ("orchestrator", "workers", "operator"))
    yield "orchestrators can be spread", "topologySpreadConstraints" in properties["orchestrator"]["properties"]
    short = [
        t["tolerationSeconds"] for o, pod in pods(standby) if o["kind"] in ("StatefulSet", "Deployment")
        for t in pod["tolerations"] if t["key"] in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")]
    yield "a silent node is given up within seconds", len(short) == 4 and max(short) <= 30

    # Going
    for o, pod in pods(default):
        if o["kind"] == "StatefulSet":
            sleep = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
            yield "the orchestrator leaves the Service, then ends, with time for what is in flight", (
                0 < sleep and sleep + 30 < pod["terminationGracePeriodSeconds"])
        if o["kind"] == "DaemonSet":
            yield "a worker has time to hand over", 30 <= pod["terminationGracePeriodSeconds"]
            yield "workers are replaced one after another", (
                o["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"] == 1 and 0 < o["spec"]["minReadySeconds"])

    # What is seen
    watching = ("ServiceMonitor", "PrometheusRule")
    yield "monitors, rules and the dashboard are there when asked for, and only then", (
        {o["kind"] for o in kind(extreme, *watching)} == set(watching) and not kind(default, *watching)
        and any("splitplace.json" in o.get("data", {}) for o in kind(extreme, "ConfigMap"))
        and not any("splitplace.json" in o.get("data", {}) for o in kind(default, "ConfigMap")))
    def chosen(objects):
        nodes = {o["metadata"]["name"].rsplit("-", 1)[1]: o["spec"]["template"]["spec"]["nodeSelector"] for o in kind(objects, "DaemonSet")}
        return {pool: labels.get("splitplace.dev/worker") for pool, labels in nodes.items()}
    yield "workers go on labelled nodes when that is asked for, pool by pool, and on every node of a first try", (
        chosen(default) == {"default": None} and chosen(extreme) == {"big": "true", "rack": "true", "small": None})
    monitor = kind(extreme, "ServiceMonitor")[0]["spec"]["endpoints"]
    scraped = " ".join(f"{one['port']} {rule['regex']}" for one in monitor for rule in one.get("relabelings", [{"regex": ""}]))
    yield "orchestrator, workers, operator and election are scraped", all(
        word in scraped for word in ("metrics orchestrator", "metrics worker|operator", "pulse")) and named(extreme, "Service", "-operator")
    further = {"cidr": "192.0.2.0/24"}
    yield "further egress reaches orchestrator, operator and fetching jobs", all(
        any(to.get("ipBlock") == further for rule in named(extreme, "NetworkPolicy", part)["spec"]["egress"] for to in rule.get("to", []))
        for part in ("-orchestrator", "-operator", "-fetch"))
    monitoring = (chart / "templates/monitoring.yaml").read_text()
    yield "and only where the cluster knows such things", monitoring.count('.Capabilities.APIVersions.Has "monitoring.coreos.com/v1"') == 2
    headless = named(default, "Service", "-workers")
    yield "workers have a headless Service, for connections to each pod", headless["spec"]["clusterIP"] == "None"
    center = kind(default, "StatefulSet")[0]["spec"]["template"]["metadata"]["annotations"]
    yield "another configuration starts other pods", "checksum/config" in center

    # Certificates
    hook = [o for o in default if o["kind"] == "Job" and "pre-install" in o["metadata"].get("annotations", {}).get("helm.sh/hook", "")]
    yield "certificates: a hook makes them", hook and not kind(default, "Certificate")
    yield "certificates: cert-manager makes them", kind(extreme, "Certificate") and kind(extreme, "Issuer") and not any(
        o["kind"] == "Job" for o in extreme)
    existing = render("existing")
    yield "certificates: they are there already", not kind(existing, "Job", "Certificate") and "center-cert" in str(existing)

    # How it is checked
    yield "helm lint --strict, several values files, schemas of Kubernetes", all(
        word in ci for word in ('"lint", "--strict"', "extreme-values", "kubernetes_validate"))
