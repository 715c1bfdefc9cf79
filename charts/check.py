"""Proof that the chart is what it says: rendered by real Helm, validated, compared with snapshots.

    charts/check.py            # check
    charts/check.py --bless    # write the snapshots

Needs `helm` (HELM names another one) and, from Python's index, kubernetes-validate, jsonschema and PyYAML;
charts/check.sh brings both. With cloudcoil's models of cert-manager and of the Prometheus operator, their objects are held
against them; with helm-python-sdk, a second, newer Helm renders too, and both must agree.
With `promtool`, alerts are checked and tried on made-up series.
"""

import copy
import importlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import jsonschema
import yaml

from checklist import checklist

ROOT = pathlib.Path(__file__).resolve().parent.parent
CHART = ROOT / "charts/splitplace"
SNAPSHOTS = ROOT / "charts/snapshots"
HELM = os.environ.get("HELM", "helm")
# The oldest that the chart allows, and the newest whose schemas the validator has.
VERSIONS = ["1.30", "1.37"]
CASES = {
    "default": [], "extreme": ["ci/extreme-values.yaml"], "bare": ["ci/bare-values.yaml"],
    "existing": ["ci/existing-values.yaml"], "plain": ["ci/plain-values.yaml"],
}
passed, failed, skipped = [], [], []


def check(name, problem):
    if problem:
        failed.append(name)
        print(f"FAILED {name}\n{problem}")
    else:
        passed.append(name)


def helm(*args, ok=True):
    done = subprocess.run([HELM, *args], capture_output=True, text=True)
    if ok and done.returncode:
        raise SystemExit(f"helm {' '.join(args)}\n{done.stderr}")
    return done


def render(case, version="1.33", *more):
    files = [part for file in CASES[case] for part in ("-f", str(CHART / file))]
    return helm(
        "template", "sp", str(CHART), "--namespace", "edge", "--kube-version", version,
        "-a", "monitoring.coreos.com/v1", *files, *more,
    ).stdout


def objects(text):
    return [one for one in yaml.safe_load_all(text) if one]


def lint():
    for case, files in CASES.items():
        done = helm("lint", "--strict", str(CHART), *[p for f in files for p in ("-f", str(CHART / f))], ok=False)
        check(f"lint {case}", done.stdout + done.stderr if done.returncode else "")


def snapshots(bless):
    SNAPSHOTS.mkdir(exist_ok=True)
    for case in CASES:
        # The hash of a rendered file is the one thing that says nothing to a reader.
        text = "".join(l for l in render(case).splitlines(True) if "checksum/config" not in l)
        path = SNAPSHOTS / f"{case}.yaml"
        if bless:
            path.write_text(text)
        same = path.exists() and path.read_text() == text
        check(f"snapshot {case}", "" if same else f"{path.relative_to(ROOT)} is another than before; if that is right: charts/check.py --bless")


def schemas():
    known = {"EdgeModel", "EdgeNode"}
    foreign = {"Certificate", "Issuer", "ServiceMonitor", "PrometheusRule", "IngressRoute", "ServersTransport"}
    for case in CASES:
        for version in VERSIONS:
            text = render(case, version)
            here = [o for o in objects(text) if o["kind"] not in known | foreign]
            with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
                yaml.safe_dump_all(here, file)
                file.flush()
                done = subprocess.run(
                    [sys.executable, "-m", "kubernetes_validate", "-k", version, "--strict", "--quiet", file.name],
                    capture_output=True, text=True,
                )
                if "No module named kubernetes_validate.__main__" in done.stderr:
                    tool = pathlib.Path(sys.executable).parent / "kubernetes-validate"
                    done = subprocess.run([tool, "-k", version, "--strict", "--quiet", file.name], capture_output=True, text=True)
                check(f"schemas {case} {version}", done.stdout + done.stderr if done.returncode else "")
            check(f"names {case} {version}", "\n".join(names(objects(text))))


# Whose objects the chart renders without bringing their definitions, and the models that were made from those.
# Traefik's are in no package; a real Traefik reads them in cli/tests/pods/traefik.rs.
DEFINED = {
    "cert-manager.io/v1": "cloudcoil.models.cert_manager.v1",
    "monitoring.coreos.com/v1": "cloudcoil.models.prometheus_operator.v1",
}


def unknown(given, kept, path):
    """Fields that a definition does not have: the API server would drop them without a word."""
    if isinstance(given, dict) and isinstance(kept, dict):
        for key, value in given.items():
            if key in kept:
                yield from unknown(value, kept[key], f"{path}.{key}")
            else:
                yield f"{path}.{key} is no field"
    elif isinstance(given, list) and isinstance(kept, list):
        for at, (one, other) in enumerate(zip(given, kept, strict=True)):
            yield from unknown(one, other, f"{path}[{at}]")


def wrong(one):
    """What the definition of an object's kind has against it."""
    model = getattr(importlib.import_module(DEFINED[one["apiVersion"]]), one["kind"])
    try:
        read = model.model_validate(one)
    except ValueError as error:
        return [str(error)]
    return list(unknown(one, read.model_dump(mode="json", by_alias=True, exclude_unset=True), one["kind"]))


def definitions():
    try:
        for module in DEFINED.values():
            importlib.import_module(module)
    except ImportError as error:
        skipped.append(f"{error.name}: objects of others were not held against their definitions")
        return
    seen = {}
    for case in CASES:
        for one in objects(render(case)):
            if one["apiVersion"] in DEFINED:
                seen[one["kind"]] = one
                check(f"definition {case} {one['kind']} {one['metadata']['name']}", "\n".join(wrong(one)))
    wanted = {"Certificate", "Issuer", "ServiceMonitor", "PrometheusRule"}
    check("objects of others are rendered", "" if set(seen) == wanted else str(set(seen) ^ wanted))
    # That it would be seen: what is missing, what is of another kind, what nobody knows.
    for kind, spoil in {
        "Certificate": lambda spec: spec.pop("issuerRef"),
        "Issuer": lambda spec: spec.update(selfSigned=[]),
        "ServiceMonitor": lambda spec: spec["endpoints"][0].update(scheme="gopher"),
        "PrometheusRule": lambda spec: spec["groups"][0]["rules"][0].update(severity="page"),
    }.items():
        bad = copy.deepcopy(seen.get(kind, {}))
        spoil(bad["spec"])
        check(f"definition refuses a spoilt {kind}", "" if wrong(bad) else "it was taken")


def documented():
    """Every value that a page sets is one of values.yaml, and Helm takes it."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    problems, count = [], 0
    pages = sorted((ROOT / "docs").glob("kubernetes*.md")) + [ROOT / "README.md", ROOT / "image/INSTALL.md"]
    for page in pages:
        text = page.read_text()
        set_there = re.findall(r"--set(?:-json|-string)? '?([A-Za-z][A-Za-z.]*)[=\[]", text)
        named = re.findall(r"`([a-z][A-Za-z]*(?:\.[A-Za-z]+)+)(?:=[^`]*)?`", text)
        # What ends as a file does is a file in a secret.
        named = [path for path in named if path.split(".")[0] in values and path.split(".")[-1] not in ("crt", "key")]
        for path in [*set_there, *named]:
            count += 1
            at = values
            for key in path.split("."):
                if not isinstance(at, dict) or key not in at:
                    problems.append(f"{page.relative_to(ROOT)}: there is no value {path}")
                    break
                at = at[key]
    check("values that documents name", "\n".join(problems))
    check("values of documents are still recognised", "" if count > 20 else f"only {count} were found")


def names(all_objects):
    """No object twice, no name that is too long, every namespaced object where it belongs."""
    seen = set()
    cluster = {"CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding"}
    for one in all_objects:
        key = (one["kind"], one["metadata"]["name"])
        if key in seen:
            yield f"{key} is there twice"
        seen.add(key)
        if len(key[1]) > 63:
            yield f"{key} is too long"
        if one["kind"] not in cluster and one["metadata"].get("namespace") != "edge":
            yield f"{key} is not in the release's namespace"


def templates(one):
    """Pod templates of an object."""
    kind, spec = one["kind"], one.get("spec", {})
    if kind == "Pod":
        yield one["metadata"], spec
    elif kind in ("StatefulSet", "DaemonSet", "Deployment", "Job"):
        yield spec["template"]["metadata"], spec["template"]["spec"]


def restricted():
    """The restricted standard, and the house's own: limits, no token without need, IfNotPresent."""
    for case in CASES:
        problems = []
        for one in objects(render(case)):
            for meta, pod in templates(one):
                who = f"{one['kind']} {one['metadata']['name']}"
                context = pod.get("securityContext", {})
                if not context.get("runAsNonRoot") or context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
                    problems.append(f"{who}: the pod is not restricted")
                if any(pod.get(word) for word in ("hostNetwork", "hostPID", "hostIPC")):
                    problems.append(f"{who}: uses the host's namespaces")
                host = [v["name"] for v in pod.get("volumes", []) if "hostPath" in v]
                if host and case != "extreme":
                    problems.append(f"{who}: mounts {host} from the host")
                if "automountServiceAccountToken" not in pod:
                    problems.append(f"{who}: does not say whether it needs a token")
                if pod["automountServiceAccountToken"] and one["kind"] == "DaemonSet":
                    problems.append(f"{who}: a worker has a token")
                for container in pod["containers"] + pod.get("initContainers", []):
                    own = container.get("securityContext", {})
                    if own.get("allowPrivilegeEscalation") is not False or own.get("capabilities", {}).get("drop") != ["ALL"] or not own.get("readOnlyRootFilesystem"):
                        problems.append(f"{who}/{container['name']}: is not restricted")
                    if "memory" not in container["resources"].get("limits", {}):
                        problems.append(f"{who}/{container['name']}: has no limit of memory")
                    if container["image"].endswith(":latest"):
                        problems.append(f"{who}/{container['name']}: latest cannot be air-gapped")
                for container in pod["containers"]:
                    if one["kind"] in ("StatefulSet", "DaemonSet", "Deployment") and "readinessProbe" not in container:
                        problems.append(f"{who}/{container['name']}: has no readiness probe")
        check(f"restricted {case}", "\n".join(problems))


def references():
    """Everything that is named is there: accounts, config maps, selectors of Services, ports, secrets."""
    for case in CASES:
        all_objects = objects(render(case))
        by_kind = {}
        for one in all_objects:
            by_kind.setdefault(one["kind"], {})[one["metadata"]["name"]] = one
        made = {"sp-splitplace-orchestrator-tls", "sp-splitplace-worker-tls", "edge-ai-orchestrator-tls", "edge-ai-worker-tls", "center-cert", "node-cert", "clients"}
        problems = []
        pods = [(one, meta, pod) for one in all_objects for meta, pod in templates(one)]
        for one, meta, pod in pods:
            who = f"{one['kind']} {one['metadata']['name']}"
            account = pod.get("serviceAccountName")
            if account and account not in by_kind.get("ServiceAccount", {}):
                problems.append(f"{who}: there is no account {account}")
            volumes = {v["name"]: v for v in pod.get("volumes", [])}
            for volume in volumes.values():
                config = volume.get("configMap", {}).get("name")
                if config and config not in by_kind.get("ConfigMap", {}):
                    problems.append(f"{who}: there is no config map {config}")
                secret = volume.get("secret", {}).get("secretName")
                if secret and secret not in made:
                    problems.append(f"{who}: nobody makes the secret {secret}")
            for container in pod["containers"] + pod.get("initContainers", []):
                for mount in container.get("volumeMounts", []):
                    if mount["name"] not in volumes:
                        problems.append(f"{who}: there is no volume {mount['name']}")
        for service in by_kind["Service"].values():
            wanted = service["spec"]["selector"]
            # This label comes at run time, to whichever pod leads.
            wanted = {k: v for k, v in wanted.items() if k != "splitplace.dev/leader"}
            matched = [pod for _, meta, pod in pods if wanted.items() <= meta.get("labels", {}).items()]
            ports = {p["name"] for pod in matched for c in pod["containers"] for p in c.get("ports", [])}
            lost = [p["targetPort"] for p in service["spec"]["ports"] if p["targetPort"] not in ports]
            if not matched or lost:
                problems.append(f"Service {service['metadata']['name']}: leads nowhere {lost}")
        check(f"references {case}", "\n".join(problems))


def left_behind():
    """The page names everything that Helm leaves where it is, and everything that ours make while they run."""
    page = (ROOT / "docs/kubernetes.md").read_text()
    section = page.partition("## What stays after `helm uninstall`")[2].partition("\n## ")[0]
    told, commands = section.partition("\n    kubectl")[::2]
    problems = []
    for case in CASES:
        name = "edge-ai" if case == "extreme" else "sp-splitplace"
        stays = set()
        for one in objects(render(case)):
            kind, own, notes = one["kind"], one["metadata"]["name"], one["metadata"].get("annotations", {})
            if notes.get("helm.sh/resource-policy") == "keep" or "helm.sh/hook" in notes:
                stays.add((kind, own))
            # What may be created by name is created while it runs.
            if kind == "Role":
                for rule in one["rules"]:
                    if not {"get", "update", "patch"}.isdisjoint(rule["verbs"]) and "resourceNames" in rule:
                        stays |= {(resource, made) for resource in rule["resources"] for made in rule["resourceNames"]}
            if kind == "Certificate":
                stays.add(("secrets", one["spec"]["secretName"]))
        # Of the release, or not made by anybody: they are looked at, or marked.
        stays = {(kind, own) for kind, own in stays if kind not in ("services", "pods")}
        for kind, own in sorted(stays):
            word = f"`…{own.removeprefix(name)}`" if own.startswith(name) else own.split(".")[0].removesuffix("s")
            if word.lower() not in told.lower():
                problems.append(f"{case}: {kind} {own} stays and is not named")
            is_labelled = kind in ("PersistentVolumeClaim", "secrets")
            if not is_labelled and own.replace(name, "splitplace", 1) not in commands:
                problems.append(f"{case}: {kind} {own} stays and no command deletes it")
    check("what stays after an uninstall is documented", "\n".join(problems))
    made = [one for one in objects(render("extreme")) if one["kind"] == "Certificate"]
    unlabelled = [one["metadata"]["name"] for one in made if one["spec"]["secretTemplate"]["labels"] != {"app.kubernetes.io/part-of": "splitplace"}]
    check("secrets of cert-manager are found by their label", "" if made and not unlabelled else str(unlabelled))


# What each part may do in the cluster. Whoever adds a line says so here, where a reviewer sees it.
GRANTED = {
    "Role sp-splitplace-operator": [
        " services [sp-splitplace]: get",
        "batch jobs: create delete list patch watch",
        "coordination.k8s.io leases [sp-splitplace-operator]: get update",
        "coordination.k8s.io leases: create",
        "events.k8s.io events: create patch",
        "splitplace.dev edgemodels/status: patch",
        "splitplace.dev edgemodels: list patch watch",
        "splitplace.dev edgenodes/status: patch",
        "splitplace.dev edgenodes: create delete list patch watch",
    ],
    "ClusterRole edge-sp-splitplace-operator": [" nodes: list patch watch"],
    "Role sp-splitplace-certificates": [
        " secrets [sp-splitplace-ca sp-splitplace-orchestrator-tls sp-splitplace-worker-tls]: get patch",
        " secrets: create",
    ],
    "Role sp-splitplace-orchestrator": [
        " pods [sp-splitplace-orchestrator-0 sp-splitplace-orchestrator-1]: patch",
        "coordination.k8s.io leases [sp-splitplace-orchestrator]: get update",
        "coordination.k8s.io leases: create",
    ],
}


def rights():
    text = render("default", "1.33", "--set", "orchestrator.standby.enabled=true,orchestrator.service.type=LoadBalancer")
    granted = {}
    for one in objects(text):
        if one["kind"] not in ("Role", "ClusterRole"):
            continue
        lines = []
        for rule in one["rules"]:
            only = f" [{' '.join(sorted(rule['resourceNames']))}]" if "resourceNames" in rule else ""
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    lines.append(f"{group} {resource}{only}: {' '.join(sorted(rule['verbs']))}")
        granted[f"{one['kind']} {one['metadata']['name']}"] = sorted(lines)
    check("rights", "" if granted == GRANTED else json.dumps(granted, indent=1))
    kinds = {one["kind"] for one in objects(render("bare"))}
    check("bare has no rights", "" if not kinds & {"Role", "ClusterRole"} else str(kinds))
    services = [rule for one in objects(render("default")) if one["kind"] == "Role" for rule in one["rules"] if "services" in rule["resources"]]
    check("no Service is read where there is no load balancer", "" if not services else str(services))
    existing = {one["kind"] for one in objects(render("existing"))}
    check("no cluster-wide rights when nodes are not watched", "" if "ClusterRole" not in existing else str(existing))


REFUSED = {
    "workers.poolz.a=1": "poolz",
    "image.tag=latest": "tag",
    "tls.mode=maybe": "mode",
    "workers.graceMs=30000": "longer than twice graceMs",
    "tls.mode=existing": "orchestratorSecret",
    "workers.guaranteed=true": "guaranteed needs limits",
    "orchestrator.service.grpcPort=70000": "grpcPort",
    "orchestrator.settings.Patience=1": "settings",
    "image.digest=sha256:12": "digest",
}


def refusals():
    for value, why in REFUSED.items():
        done = helm("template", "sp", str(CHART), "--kube-version", "1.33", "--set", value, ok=False)
        is_said = done.returncode != 0 and why in done.stderr
        check(f"refuses {value}", "" if is_said else done.stderr or "it was taken")
    done = helm("template", "sp", str(CHART), "--kube-version", "1.29", ok=False)
    check("refuses Kubernetes 1.29", "" if done.returncode and "1.30" in done.stderr else done.stderr)


def values_are_explained():
    """A comment above or beside each top-level value and each value that is no plain name."""
    lines = (CHART / "values.yaml").read_text().splitlines()
    bare = []
    for at, line in enumerate(lines):
        if line and not line.startswith((" ", "#")) and line.endswith(":"):
            around = lines[max(0, at - 2): at + 3]
            if not any("#" in one for one in around):
                bare.append(line)
    check("values are explained", "\n".join(bare) if bare else "")


def custom_resources():
    validators = {}
    for path in sorted((ROOT / "k8s/crds").glob("*.yaml")):
        crd = yaml.safe_load(path.read_text())
        schema = copy.deepcopy(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"])

        def close(node):
            if isinstance(node, dict):
                if "properties" in node and "additionalProperties" not in node:
                    node["additionalProperties"] = False
                if node.get("nullable") and "type" in node:
                    node["type"] = [node["type"], "null"]
                    if "enum" in node and None not in node["enum"]:
                        node["enum"] = [*node["enum"], None]
                for inner in node.values():
                    close(inner)
            elif isinstance(node, list):
                for inner in node:
                    close(inner)

        close(schema)
        schema["properties"].update({"apiVersion": {}, "kind": {}, "metadata": {}})
        validators[crd["spec"]["names"]["kind"]] = jsonschema.Draft7Validator(schema)
        there = (CHART / "files/crds" / path.name).read_text()
        check(f"chart carries {path.name}", "" if there == path.read_text() else "it is another; run the tests of k8s with SPLITPLACE_BLESS=1")
    for path in sorted((ROOT / "k8s/samples").glob("*.yaml")):
        for one in yaml.safe_load_all(path.read_text()):
            problems = [f"{'.'.join(map(str, e.path))}: {e.message}" for e in validators[one["kind"]].iter_errors(one)]
            check(f"sample {path.name} {one['metadata']['name']}", "\n".join(problems))


def newer_helm():
    """A Helm of another age must make the same objects; what depends on the cluster's abilities aside."""
    try:
        from helm_python import chart as newer
    except (ImportError, OSError):
        skipped.append("a newer Helm (helm-python-sdk)")
        return
    apart = {"ServiceMonitor", "PrometheusRule"}
    for case, files in CASES.items():
        values = {}
        for file in files:
            values.update(yaml.safe_load((CHART / file).read_text()))
        rendered = newer.Chart.load(str(CHART)).render(values, name="sp", namespace="edge")
        texts = [text for path, text in rendered.items() if path.endswith(".yaml")]
        by_name = lambda all_objects: {(o["kind"], o["metadata"]["name"]): o for o in all_objects if o["kind"] not in apart}
        ours, theirs = by_name(objects(render(case))), by_name(o for text in texts for o in objects(text))
        for one in ours.values():
            one.get("spec", {}).get("template", {}).get("metadata", {}).pop("annotations", None)
        for one in theirs.values():
            one.get("spec", {}).get("template", {}).get("metadata", {}).pop("annotations", None)
        differ = sorted(str(key) for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
        check(f"a newer Helm agrees: {case}", "\n".join(differ))


def expectations():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    for sentence, holds in checklist(ROOT, chart, CHART, lambda case, *more: objects(render(case, "1.33", *more))):
        check(f"checklist: {sentence}", "" if holds else "it does not hold")


def alerts():
    rule = next(o for o in objects(render("extreme")) if o["kind"] == "PrometheusRule")
    board = next(o for o in objects(render("extreme")) if o["kind"] == "ConfigMap" and "splitplace.json" in o["data"])
    json.loads(board["data"]["splitplace.json"])
    files = ("metrics.rs", "prediction.rs")
    source = "".join(p.read_text() for folder in ("orchestrator", "worker") for p in (ROOT / folder / "src").rglob("*.rs") if p.name in files)
    text = yaml.safe_dump(rule["spec"]) + board["data"]["splitplace.json"]
    used = set(re.findall(r"splitplace_[a-z_]+", text))
    unknown = []
    for name in sorted(used):
        base = name.removeprefix("splitplace_").removeprefix("worker_")
        for ending in ("_total", "_bucket", "_seconds"):
            base = base.removesuffix(ending)
        if f'"{base}"' not in source and f'"{base}_seconds"' not in source and f'"{base}_bytes"' not in source:
            unknown.append(name)
    check("alerts and dashboard name numbers that exist", "\n".join(unknown))
    tests = (ROOT / "charts/alerts-test.yaml").read_text()
    there = {one["alert"] for group in rule["spec"]["groups"] for one in group["rules"]}
    all_tests = [one for test in yaml.safe_load(tests)["tests"] for one in test["alert_rule_test"]]
    for what, tried in {
        "fires": {one["alertname"] for one in all_tests if one["exp_alerts"]},
        "stays silent": {one["alertname"] for one in all_tests if not one["exp_alerts"]},
    }.items():
        check(f"a test shows that each alert {what}", "\n".join(sorted(there ^ tried)))
    if not shutil.which("promtool"):
        skipped.append("promtool: alerts were not tried on series")
        return
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "rules.yaml").write_text(yaml.safe_dump(rule["spec"]))
        (folder / "test.yaml").write_text(tests)
        for args in (["check", "rules", "rules.yaml"], ["test", "rules", "test.yaml"]):
            done = subprocess.run(["promtool", *args], cwd=folder, capture_output=True, text=True)
            check(f"promtool {' '.join(args)}", done.stdout + done.stderr if done.returncode else "")


def main():
    bless = "--bless" in sys.argv
    lint()
    schemas()
    definitions()
    snapshots(bless)
    restricted()
    references()
    left_behind()
    rights()
    refusals()
    values_are_explained()
    custom_resources()
    expectations()
    alerts()
    documented()
    newer_helm()
    for one in skipped:
        print(f"SKIPPED {one}")
    print(f"chart: {len(passed)} passed, {len(failed)} failed, {len(skipped)} skipped")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
