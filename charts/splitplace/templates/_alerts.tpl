{{- define "splitplace.alerts" -}}
{{- $m := .Values.metrics.prometheusRule -}}
{{- $in := printf "namespace=%q" .Release.Namespace -}}
- name: splitplace
  rules:
    - alert: SplitPlaceOrchestratorGone
      expr: absent(splitplace_plan_generation{ {{- $in -}} })
      for: 2m
      labels: {severity: critical}
      annotations:
        summary: No orchestrator answers in {{ .Release.Namespace }}
        description: Nothing is served. Look at the pod and at its claim's node; docs/kubernetes-troubleshooting.md, "nothing answers".
    {{- if $m.nodesMin }}
    - alert: SplitPlaceNodesMissing
      expr: max(splitplace_nodes{ {{- $in -}} }) < {{ int $m.nodesMin }}
      for: 1m
      labels: {severity: warning}
      annotations:
        summary: Only {{ "{{ $value }}" }} nodes are alive, {{ int $m.nodesMin }} are wanted
        description: kubectl get edgenodes says which are lost, and why.
    {{- end }}
    - alert: SplitPlacePromisesMissed
      expr: |
        sum by (model) (rate(splitplace_promises_total{held="false",{{ $in }}}[10m]))
          / sum by (model) (rate(splitplace_promises_total{ {{- $in -}} }[10m])) > {{ $m.slaMissedRatio }}
      for: 5m
      labels: {severity: warning}
      annotations:
        summary: "{{ "{{ $labels.model }}" }}: {{ "{{ $value | humanizePercentage }}" }} of the promised times are missed"
        description: Nodes or links are slower than the plan believes, or the load is higher than they bear. The dashboard shows where the time goes.
    - alert: SplitPlaceRequestsLost
      expr: |
        sum by (model) (rate(splitplace_requests_total{ending=~"refused|expired|failed",{{ $in }}}[10m]))
          / sum by (model) (rate(splitplace_requests_total{ {{- $in -}} }[10m])) > {{ $m.lossRatio }}
      for: 5m
      labels: {severity: warning}
      annotations:
        summary: "{{ "{{ $labels.model }}" }}: {{ "{{ $value | humanizePercentage }}" }} of the requests get no answer"
        description: refused means too many in flight or no time left; expired, that no node answered; failed, that the model or the input is at fault.
    - alert: SplitPlaceRetries
      expr: sum by (model) (rate(splitplace_retries_total{ {{- $in -}} }[10m])) > 1
      for: 10m
      labels: {severity: warning}
      annotations:
        summary: "{{ "{{ $labels.model }}" }}: requests are tried again and again"
        description: A node or a link breaks and comes back. kubectl get events --field-selector reason=NodeLost
    - alert: SplitPlaceQueuesFull
      expr: sum by (node) (rate(splitplace_worker_frames_refused_total{ {{- $in -}} }[5m])) > 0
      for: 5m
      labels: {severity: warning}
      annotations:
        summary: "Worker {{ "{{ $labels.node }}" }} refuses frames"
        description: Its queues are full. Give it more CPU, add a node, or lower the load.
    - alert: SplitPlaceCertificateExpires
      expr: |
        min by (node) (splitplace_certificate_expiry_timestamp_seconds{ {{- $in -}} } > 0
          or splitplace_worker_certificate_expiry_timestamp_seconds{ {{- $in -}} } > 0) - time() < {{ mul 86400 (int $m.certificateDays) }}
      for: 10m
      labels: {severity: warning}
      annotations:
        summary: "The certificate of {{ "{{ if $labels.node }}worker {{ $labels.node }}{{ else }}the orchestrator{{ end }}" }} holds for {{ "{{ $value | humanizeDuration }}" }} more"
        description: Then nothing connects any more. Renew it as docs/kubernetes-operations.md says under "Certificates"; nothing has to be started again.
    - alert: SplitPlacePlansTooOften
      expr: changes(splitplace_plan_generation{ {{- $in -}} }[15m]) > 10
      labels: {severity: warning}
      annotations:
        summary: The plan changes again and again
        description: Nodes come and go, or measurements jump. Look for a flapping node or a loose cable.
{{- end }}
