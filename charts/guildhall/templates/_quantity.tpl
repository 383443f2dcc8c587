{{/* MiB of a quantity of Kubernetes such as 4Gi, rounded down. */}}
{{- define "guildhall.mib" -}}
{{- $text := toString . -}}
{{- $number := regexFind "^[0-9]+(\\.[0-9]+)?" $text | float64 -}}
{{- $unit := regexReplaceAll "^[0-9]+(\\.[0-9]+)?" $text "" -}}
{{- $bytes := dict "" 1.0 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "Ki" 1024.0 "Mi" 1048576.0 "Gi" 1073741824.0 "Ti" 1099511627776.0 "Pi" 1125899906842624.0 -}}
{{- if not (hasKey $bytes $unit) -}}
{{- fail (printf "%s is no quantity of memory such as 4Gi or 512Mi" $text) -}}
{{- end -}}
{{- divf (mulf $number (index $bytes $unit)) 1048576.0 | floor | int64 -}}
{{- end }}
