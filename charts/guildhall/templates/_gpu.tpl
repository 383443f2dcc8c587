{{/* GPUs of a workload, by device plugin or by dynamic resource allocation. All take (dict root values name). */}}
{{- define "guildhall.gpuCount" -}}
{{- if ne .root.Values.gpu.mode "none" }}{{ dig "gpus" 0 .values | int }}{{ else }}0{{ end -}}
{{- end }}

{{- define "guildhall.resources" -}}
{{- $count := include "guildhall.gpuCount" . | int -}}
{{- $resources := deepCopy (.values.resources | default dict) -}}
{{- if and (gt $count 0) (eq .root.Values.gpu.mode "devicePlugin") -}}
{{- $limits := get $resources "limits" | default dict -}}
{{- $_ := set $limits .root.Values.gpu.resourceName $count -}}
{{- $_ := set $resources "limits" $limits -}}
{{- end -}}
{{- if and (gt $count 0) (eq .root.Values.gpu.mode "dra") -}}
{{- $_ := set $resources "claims" (list (dict "name" "gpu")) -}}
{{- end -}}
{{- with $resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "guildhall.resourceClaims" -}}
{{- if and (gt (include "guildhall.gpuCount" . | int) 0) (eq .root.Values.gpu.mode "dra") }}
resourceClaims:
  - name: gpu
    resourceClaimTemplateName: {{ .name }}
{{- end }}
{{- end }}
