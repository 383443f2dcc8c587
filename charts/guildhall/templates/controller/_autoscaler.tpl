{{/* Bounds of one workload in the autoscaler's policy. Takes (dict root values name). */}}
{{- define "guildhall.policyBounds" -}}
{{- $own := .values.autoscaler -}}
{{- $gpus := $own.gpusPerReplica -}}
{{- if kindIs "invalid" $gpus }}{{ $gpus = include "guildhall.gpuCount" . | int }}{{ end -}}
{{- dict "deployment" .name "min" $own.min "max" $own.max "gpusPerReplica" $gpus "pricePerHour" $own.pricePerHour | toJson -}}
{{- end }}

{{/* autoscaler.json: values under `autoscaler`, and the bounds of every workload that is left to it. */}}
{{- define "guildhall.autoscalerPolicy" -}}
{{- $root := . -}}
{{- $policy := deepCopy .Values.autoscaler -}}
{{- $groups := list -}}
{{- range include "guildhall.groups" . | fromJsonArray -}}
{{- if .autoscaler.enabled -}}
{{- $bounds := include "guildhall.policyBounds" (dict "root" $root "values" . "name" (include "guildhall.groupName" (list $root .name))) | fromJson -}}
{{- $groups = append $groups (merge (dict "name" .name "redundancy" .autoscaler.redundancy) $bounds) -}}
{{- end -}}
{{- end -}}
{{- $_ := set $policy "groups" $groups -}}
{{- if and .Values.router.autoscaler.enabled (eq .Values.router.autoscaling.type "none") -}}
{{- $_ := set $policy "routers" (include "guildhall.policyBounds" (dict "root" . "values" .Values.router "name" (include "guildhall.objectName" (list . "router"))) | fromJson) -}}
{{- end -}}
{{- toPrettyJson $policy -}}
{{- end }}
