{{/* Bounds of one workload in the autoscaler's policy. Takes (dict root values name). */}}
{{- define "guildhall.policyBounds" -}}
{{- $bounds := omit .values.autoscaler "enabled" -}}
{{- $_ := set $bounds "deployment" .name -}}
{{- if kindIs "invalid" $bounds.gpusPerReplica }}{{ $_ := set $bounds "gpusPerReplica" (include "guildhall.gpuCount" . | int) }}{{ end -}}
{{- toJson $bounds -}}
{{- end }}

{{/* autoscaler.json: values under `autoscaler`, and the bounds of every workload that is left to it. */}}
{{- define "guildhall.autoscalerPolicy" -}}
{{- $root := . -}}
{{- $policy := deepCopy .Values.autoscaler -}}
{{- $groups := list -}}
{{- range include "guildhall.groups" . | fromJsonArray -}}
{{- if .autoscaler.enabled -}}
{{- $bounds := include "guildhall.policyBounds" (dict "root" $root "values" . "name" (include "guildhall.groupName" (list $root .name))) | fromJson -}}
{{- $groups = append $groups (merge (dict "name" .name) $bounds) -}}
{{- end -}}
{{- end -}}
{{- $_ := set $policy "groups" $groups -}}
{{- if and .Values.router.autoscaler.enabled (eq .Values.router.autoscaling.type "none") -}}
{{- $_ := set $policy "routers" (include "guildhall.policyBounds" (dict "root" . "values" .Values.router "name" (include "guildhall.objectName" (list . "router"))) | fromJson) -}}
{{- end -}}
{{- toPrettyJson $policy -}}
{{- end }}
