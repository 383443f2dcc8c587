{{/* Values of a workload over those of `pods`, as JSON. Takes (list root values). */}}
{{- define "guildhall.workload" -}}
{{- mergeOverwrite (deepCopy (index . 0).Values.pods) (deepCopy (index . 1)) | toJson -}}
{{- end }}
