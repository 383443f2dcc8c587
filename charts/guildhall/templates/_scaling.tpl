{{/* Whether something scales a workload, so that spec.replicas is not the chart's. Takes (dict root values). */}}
{{- define "guildhall.scaledBy" -}}
{{- $autoscaling := .values.autoscaling | default dict -}}
{{- $own := .values.autoscaler | default dict -}}
{{- if ne ($autoscaling.type | default "none") "none" -}}
{{- $autoscaling.type -}}
{{- else if and (eq .root.Values.autoscaler.mode "active") $own.enabled -}}
guildhall
{{- end -}}
{{- end }}

{{/*
`replicas` of a Deployment: the value where nothing scales it, else none. A Deployment that lost the field that Helm had set would
fall to one pod, so Helm keeps it, at the number that is there, until whoever scales it has written it. Helm 3 patches by what the
last release said and can never let go of it. Takes what guildhall.deployment takes.
*/}}
{{- define "guildhall.replicas" -}}
{{- if not (include "guildhall.scaledBy" .) -}}
replicas: {{ .values.replicas }}
{{- else -}}
{{- $live := lookup "apps/v1" "Deployment" .root.Release.Namespace .name | default dict -}}
{{- $ours := semverCompare "<4.0.0-0" .root.Capabilities.HelmVersion.Version -}}
{{- $others := false -}}
{{- range dig "metadata" "managedFields" list $live -}}
{{- if hasKey (dig "fieldsV1" "f:spec" dict .) "f:replicas" -}}
{{- if hasPrefix "helm" .manager }}{{ $ours = true }}{{ else }}{{ $others = true }}{{ end -}}
{{- end -}}
{{- end -}}
{{- $released := and $others (semverCompare ">=4.0.0-0" .root.Capabilities.HelmVersion.Version) -}}
{{- if and $live $ours (not $released) -}}
replicas: {{ $live.spec.replicas }}
{{- end -}}
{{- end -}}
{{- end }}

{{/* A budget for a single pod would hold every drain of its node up for ever; it is made only when asked for. */}}
{{- define "guildhall.pdb" -}}
{{- $least := .values.replicas | int -}}
{{- $by := include "guildhall.scaledBy" . -}}
{{- if eq $by "guildhall" }}{{- $least = .values.autoscaler.min | int }}{{- else if $by }}{{- $least = .values.autoscaling.min | int }}{{- end -}}
{{- if or (eq .values.pdb.mode "always") (and (eq .values.pdb.mode "auto") (gt $least 1)) }}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "guildhall.metadata" . | nindent 2 }}
spec:
  maxUnavailable: {{ .values.pdb.maxUnavailable }}
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "guildhall.selectorLabels" . | nindent 6 }}
{{- end }}
{{- end }}

{{/* HorizontalPodAutoscaler or ScaledObject of a workload. */}}
{{- define "guildhall.autoscaling" -}}
{{- $autoscaling := .values.autoscaling -}}
{{- if eq $autoscaling.type "hpa" }}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  {{- include "guildhall.metadata" . | nindent 2 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: {{ .name }}
  minReplicas: {{ $autoscaling.min }}
  maxReplicas: {{ $autoscaling.max }}
  metrics:
    {{- with $autoscaling.cpuUtilisation }}
    - type: Resource
      resource:
        name: cpu
        target:
          type: Utilization
          averageUtilization: {{ . }}
    {{- end }}
    {{- with $autoscaling.metrics }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $autoscaling.behavior }}
  behavior:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- else if eq $autoscaling.type "keda" }}
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  {{- include "guildhall.metadata" . | nindent 2 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: {{ .name }}
  minReplicaCount: {{ $autoscaling.min }}
  maxReplicaCount: {{ $autoscaling.max }}
  pollingInterval: {{ $autoscaling.pollingInterval }}
  cooldownPeriod: {{ $autoscaling.cooldownPeriod }}
  {{- with $autoscaling.behavior }}
  advanced:
    horizontalPodAutoscalerConfig:
      behavior:
        {{- toYaml . | nindent 8 }}
  {{- end }}
  triggers:
    {{- toYaml $autoscaling.triggers | nindent 4 }}
{{- end }}
{{- end }}
