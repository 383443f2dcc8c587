{{/*
NetworkPolicies: everything is denied to the release's pods, then each kind gets what it needs. Peers within the release are chosen
by component, so that a compromised gateway reaches no worker.
*/}}

{{/* A rule's peers by component. Takes (list root component…). */}}
{{- define "guildhall.peers" -}}
{{- $root := index . 0 -}}
{{- range rest . }}
- podSelector:
    matchLabels:
      app.kubernetes.io/name: guildhall
      app.kubernetes.io/instance: {{ $root.Release.Name }}
      app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end }}

{{/* Egress to components of the release at a named port's number. Takes (list root port component…). */}}
{{- define "guildhall.egressTo" -}}
- to:
    {{- include "guildhall.peers" (prepend (slice . 2) (index . 0)) | trim | nindent 4 }}
  ports:
    - protocol: TCP
      port: {{ include "guildhall.port" (index . 1) }}
{{- end }}

{{/* Ingress from components of the release; nothing when none is named. */}}
{{- define "guildhall.ingressFrom" -}}
{{- if gt (len .) 2 -}}
- from:
    {{- include "guildhall.peers" (prepend (slice . 2) (index . 0)) | trim | nindent 4 }}
  ports:
    - protocol: TCP
      port: {{ include "guildhall.port" (index . 1) }}
{{- end }}
{{- end }}

{{/* A rule with peers of the values, or without: anywhere. Takes (dict key peers ports). */}}
{{- define "guildhall.openRule" -}}
- ports:
    {{- range .ports }}
    - protocol: TCP
      port: {{ . }}
    {{- end }}
  {{- with .peers }}
  {{ $.key }}:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{- define "guildhall.cidrPeers" -}}
{{- $peers := list -}}
{{- range . }}{{ $peers = append $peers (dict "ipBlock" (dict "cidr" .)) }}{{ end -}}
{{- toJson $peers -}}
{{- end }}

{{/* What every process may do: look names up, reach Redis, send traces. */}}
{{- define "guildhall.commonEgress" -}}
- ports:
    - protocol: UDP
      port: 53
    - protocol: TCP
      port: 53
  {{- with .Values.networkPolicy.dnsTo }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- if eq .Values.registry.mode "bundled" }}
{{ include "guildhall.egressTo" (list . "valkey" "valkey") }}
{{- else }}
{{ include "guildhall.openRule" (dict "key" "to"
  "peers" (include "guildhall.cidrPeers" .Values.registry.external.cidrs | fromJsonArray)
  "ports" (include "guildhall.registryPorts" . | fromJsonArray)) }}
{{- end }}
{{- if .Values.tracing.endpoint }}
{{ include "guildhall.openRule" (dict "key" "to" "peers" .Values.networkPolicy.tracingTo "ports" .Values.tracing.ports) }}
{{- end }}
{{- end }}

{{/* Weights from a hub or bucket. */}}
{{- define "guildhall.pullEgress" -}}
{{- $model := include "guildhall.model" . | fromJson -}}
{{- if $model.pulled }}
{{ include "guildhall.openRule" (dict "key" "to" "peers" .Values.networkPolicy.pullTo "ports" .Values.networkPolicy.pullPorts) }}
{{- end }}
{{- end }}

{{- define "guildhall.metricsIngress" -}}
{{- include "guildhall.openRule" (dict "key" "from" "peers" .Values.networkPolicy.metricsFrom "ports" (list (include "guildhall.port" "admin" | int))) -}}
{{- end }}

{{/* A policy for one component: takes (dict root component ingress egress), the last two as text. */}}
{{- define "guildhall.networkPolicy" -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "guildhall.metadata" (dict "root" .root "component" .component "name" (include "guildhall.objectName" (list .root .component))) | nindent 2 }}
spec:
  podSelector:
    matchLabels:
      {{- include "guildhall.selectorLabels" (dict "root" .root "component" .component) | nindent 6 }}
  policyTypes: [Ingress, Egress]
  {{- with .ingress | trim }}
  ingress:
    {{- . | nindent 4 }}
  {{- end }}
  {{- with .egress | trim }}
  egress:
    {{- . | nindent 4 }}
  {{- end }}
{{- end }}
