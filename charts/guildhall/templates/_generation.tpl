{{/* Facts that `node scripts/generate.ts` writes: versions of kernels, defaults of options that templates compute with. */}}
{{- define "guildhall.facts" -}}
{{- .Files.Get "files/facts.json" -}}
{{- end }}

{{/*
Name of what the processes compute: the same model in the same arithmetic. Processes of different generations are in different
clusters and never see each other.
*/}}
{{- define "guildhall.generation" -}}
{{- $facts := include "guildhall.facts" . | fromJson -}}
{{- $model := .Values.model -}}
{{- $kernels := dict -}}
{{- range $family, $version := $facts.kernels -}}
{{- $other := and (eq $model.weights "bf16") (ne $model.bf16Kernels "auto") (ne $family $model.bf16Kernels) -}}
{{- if and (hasPrefix (printf "%s-" $model.weights) $family) (not $other) }}{{ $_ := set $kernels $family $version }}{{ end -}}
{{- end -}}
{{- list $model.source $model.path $model.sha256 $model.weights $model.kvDtype $model.combine $model.bf16Kernels $kernels $facts.kvKernels | toJson | sha256sum | trunc 10 -}}
{{- end }}

{{- define "guildhall.cluster" -}}
{{- printf "%s-%s" (include "guildhall.fullname" .) (include "guildhall.generation" .) -}}
{{- end }}

{{/* Generation that an existing Deployment runs; empty when there is none, or under `helm template`. Takes (list root name). */}}
{{- define "guildhall.runningGeneration" -}}
{{- $root := index . 0 -}}
{{- $live := lookup "apps/v1" "Deployment" $root.Release.Namespace (index . 1) | default dict -}}
{{- dig "spec" "template" "metadata" "labels" "guildhall.dev/generation" "" $live -}}
{{- end }}
