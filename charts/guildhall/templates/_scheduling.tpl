{{/* Where pods go. Takes (dict root component values group?). */}}
{{- define "guildhall.scheduling" -}}
{{- $values := .values -}}
{{- $gpus := gt (include "guildhall.gpuCount" . | int) 0 -}}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $values.schedulerName }}
schedulerName: {{ . }}
{{- end }}
{{- $runtime := $values.runtimeClassName -}}
{{- if and $gpus (not $runtime) -}}{{- $runtime = .root.Values.gpu.runtimeClassName -}}{{- end }}
{{- with $runtime }}
runtimeClassName: {{ . }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- $tolerations := $values.tolerations | default list -}}
{{- if $gpus }}{{- $tolerations = concat $tolerations .root.Values.gpu.tolerations }}{{- end }}
{{- with $tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- include "guildhall.affinity" . }}
{{- include "guildhall.topologySpread" . }}
{{- end }}

{{/* Replicas of one workload keep away from each other, so that a lost machine takes one of them. */}}
{{- define "guildhall.affinity" -}}
{{- $affinity := deepCopy (.values.affinity | default dict) -}}
{{- $mode := .values.antiAffinity | default "none" -}}
{{- if and (ne $mode "none") (not (hasKey $affinity "podAntiAffinity")) -}}
{{- $labels := include "guildhall.selectorLabels" . | fromYaml -}}
{{- $term := dict "topologyKey" "kubernetes.io/hostname" "labelSelector" (dict "matchLabels" $labels) -}}
{{- if eq $mode "required" -}}
{{- $_ := set $affinity "podAntiAffinity" (dict "requiredDuringSchedulingIgnoredDuringExecution" (list $term)) -}}
{{- else -}}
{{- $_ := set $affinity "podAntiAffinity" (dict "preferredDuringSchedulingIgnoredDuringExecution" (list (dict "weight" 100 "podAffinityTerm" $term))) -}}
{{- end -}}
{{- end }}
{{- with $affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* A rollout's old pods must not count against its new ones: matchLabelKeys. */}}
{{- define "guildhall.topologySpread" -}}
{{- if .values.topologySpread }}
topologySpreadConstraints:
  {{- $labels := include "guildhall.selectorLabels" . }}
  {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- $labels | nindent 8 }}
    matchLabelKeys: [pod-template-hash]
  {{- end }}
{{- end }}
{{- end }}
