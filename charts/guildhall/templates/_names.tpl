{{/* Names of the release's objects. Fullname is short, so that names made from it fit into labels (63 characters). */}}
{{- define "guildhall.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains "guildhall" .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-guildhall" (.Release.Name | trunc 30 | trimSuffix "-") -}}
{{- end -}}
{{- end }}

{{/* Takes (list root suffix). Fails where Kubernetes could not use the name as a label. */}}
{{- define "guildhall.objectName" -}}
{{- $name := printf "%s-%s" (include "guildhall.fullname" (index . 0)) (index . 1) -}}
{{- if gt (len $name) 63 -}}
{{- fail (printf "the name %s has %d characters, Kubernetes allows 63: set a shorter fullnameOverride or a shorter name of the expert group" $name (len $name)) -}}
{{- end -}}
{{- $name -}}
{{- end }}

{{/* Ports of containers by name. */}}
{{- define "guildhall.port" -}}
{{- index (dict "http" 8000 "grpc" 9000 "admin" 9090 "valkey" 6379) . -}}
{{- end }}

{{/* What never changes in the life of an object: takes (dict root component group?). */}}
{{- define "guildhall.selectorLabels" -}}
app.kubernetes.io/name: guildhall
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- with .group }}
guildhall.dev/group: {{ . }}
{{- end }}
{{- end }}

{{- define "guildhall.labels" -}}
{{ include "guildhall.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: guildhall
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Metadata of an object: takes (dict root component name group? annotations?). */}}
{{- define "guildhall.metadata" -}}
name: {{ .name }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "guildhall.labels" . | nindent 2 }}
{{- $annotations := mergeOverwrite (deepCopy (.root.Values.commonAnnotations | default dict)) (deepCopy (.annotations | default dict)) }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
