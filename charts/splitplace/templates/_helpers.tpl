{{- define "splitplace.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{- define "splitplace.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "splitplace.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Labels that never change, for selectors. Takes a list: root, component. */}}
{{- define "splitplace.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "splitplace.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "splitplace.labels" -}}
{{- $root := index . 0 -}}
{{ include "splitplace.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: splitplace
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "splitplace.image" -}}
{{- $repository := .Values.image.repository -}}
{{- with .Values.global.imageRegistry -}}{{- $repository = printf "%s/%s" . $repository -}}{{- end -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" $repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end }}

{{/* Account of a part. Takes root, component, its values. */}}
{{- define "splitplace.account" -}}
{{- $account := (index . 2).serviceAccount -}}
{{- if $account.create -}}
{{- default (printf "%s-%s" (include "splitplace.fullname" (index . 0)) (index . 1)) $account.name -}}
{{- else -}}
{{- default "default" $account.name -}}
{{- end -}}
{{- end }}

{{- define "splitplace.service" -}}
{{ include "splitplace.fullname" . }}.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}
{{- end }}
{{- define "splitplace.workersDomain" -}}
{{ include "splitplace.fullname" . }}-workers.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}
{{- end }}
{{- define "splitplace.centerHost" -}}
{{ include "splitplace.fullname" . }}-center.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}
{{- end }}

{{- define "splitplace.storeClaim" -}}
{{- default (printf "%s-store" (include "splitplace.fullname" .)) .Values.orchestrator.persistence.existingClaim -}}
{{- end }}

{{/* Empty without certificates. */}}
{{- define "splitplace.orchestratorSecret" -}}
{{- if eq .Values.tls.mode "existing" -}}
{{- required "tls.existing.orchestratorSecret must name a secret with ca.crt, tls.crt and tls.key" .Values.tls.existing.orchestratorSecret -}}
{{- else if ne .Values.tls.mode "none" -}}
{{- include "splitplace.fullname" . }}-orchestrator-tls
{{- end -}}
{{- end }}
{{- define "splitplace.workerSecret" -}}
{{- if eq .Values.tls.mode "existing" -}}
{{- required "tls.existing.workerSecret must name a secret with ca.crt, tls.crt and tls.key" .Values.tls.existing.workerSecret -}}
{{- else if ne .Values.tls.mode "none" -}}
{{- include "splitplace.fullname" . }}-worker-tls
{{- end -}}
{{- end }}

{{/* Every name of the orchestrator's certificate, one a line. */}}
{{- define "splitplace.orchestratorHosts" -}}
{{- $short := include "splitplace.fullname" . -}}
{{- $names := list $short (printf "%s-center" $short) -}}
{{- if .Values.orchestrator.standby.enabled -}}{{- $names = append $names (printf "%s-reads" $short) -}}{{- end -}}
{{- range $name := $names }}
{{ $name }}
{{ $name }}.{{ $.Release.Namespace }}
{{ $name }}.{{ $.Release.Namespace }}.svc
{{ $name }}.{{ $.Release.Namespace }}.svc.{{ $.Values.clusterDomain }}
{{- end }}
localhost
127.0.0.1
{{- range .Values.tls.extraHosts }}
{{ . }}
{{- end }}
{{- end }}

{{/* Settings as TOML: dotted keys, values as JSON, which TOML reads for texts, numbers, truths and lists. */}}
{{- define "splitplace.settings" -}}
{{- range $name, $value := . }}
{{ $name }} = {{ toJson $value }}
{{- end }}
{{- end }}

{{/* A pod's part that is the same everywhere. */}}
{{- define "splitplace.env" -}}
- name: SPLITPLACE_LOG
  value: {{ .Values.log | quote }}
- name: SPLITPLACE_LOG_FORMAT
  value: {{ ternary "json" "human" .Values.logJson | quote }}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: POD_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
{{- end }}

{{/* How a client of ours reaches the orchestrator. Takes root, address. */}}
{{- define "splitplace.clientEnv" -}}
{{- $root := index . 0 -}}
- name: SPLITPLACE_SERVER
  value: {{ index . 1 }}
{{- if ne $root.Values.tls.mode "none" }}
- name: SPLITPLACE_CA
  value: /etc/splitplace/tls/ca.crt
{{- end }}
{{- with $root.Values.orchestrator.tokens.existingSecret }}
- name: SPLITPLACE_TOKEN
  valueFrom: {secretKeyRef: {name: {{ . }}, key: {{ $root.Values.orchestrator.tokens.ownKey }}}}
{{- end }}
{{- end }}

{{- define "splitplace.tolerations" -}}
{{- $part := . -}}
tolerations:
  - key: node.kubernetes.io/not-ready
    operator: Exists
    effect: NoExecute
    tolerationSeconds: {{ $part.nodeLossSeconds }}
  - key: node.kubernetes.io/unreachable
    operator: Exists
    effect: NoExecute
    tolerationSeconds: {{ $part.nodeLossSeconds }}
{{- with $part.tolerations }}
{{ toYaml . | indent 2 }}
{{- end }}
{{- end }}

{{- define "splitplace.stateMounts" -}}
- {name: state, mountPath: /var/lib/splitplace}
{{- if .Values.orchestrator.models.existingClaim }}
- name: models
  mountPath: /var/lib/splitplace/models
  {{- with .Values.orchestrator.models.subPath }}
  subPath: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "splitplace.pods" -}}
podSelector: {matchLabels: {app.kubernetes.io/name: {{ include "splitplace.name" (index . 0) }}, app.kubernetes.io/instance: {{ (index . 0).Release.Name }}, app.kubernetes.io/component: {{ index . 1 }}}}
{{- end }}
{{- define "splitplace.dnsEgress" -}}
- ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]
{{- end }}
