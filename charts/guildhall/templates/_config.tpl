{{/*
config.json of a service: what values say under `config`, and what the chart decides. Takes (dict root component values).
*/}}
{{- define "guildhall.listen" -}}
{{- if eq .root.Values.ipFamily "IPv6" }}[::]:{{ else }}0.0.0.0:{{ end }}{{ include "guildhall.port" .port -}}
{{- end }}

{{- define "guildhall.config" -}}
{{- $root := .root -}}
{{- $model := $root.Values.model -}}
{{- $config := deepCopy (.values.config | default dict) -}}
{{- $_ := set $config "adminListen" (include "guildhall.listen" (dict "root" $root "port" "admin")) -}}
{{- with include "guildhall.redisCa" $root }}{{ $_ := set $config "redisCa" . }}{{ end -}}
{{- if $root.Values.tls.enabled -}}
{{- $_ := set $config "tlsCert" "/run/guildhall/tls/tls.crt" -}}
{{- $_ := set $config "tlsKey" "/run/guildhall/tls/tls.key" -}}
{{- $_ := set $config "tlsCa" "/run/guildhall/tls/ca.crt" -}}
{{- end -}}
{{- if eq .component "gateway" -}}
{{- $_ := set $config "listen" (include "guildhall.listen" (dict "root" $root "port" "http")) -}}
{{- if eq $root.Values.auth.mode "keys" -}}
{{- $_ := set $config "apiKeyFile" "/run/guildhall/keys/keys" -}}
{{- end -}}
{{- if .values.https.existingSecret -}}
{{- $_ := set $config "httpsCert" "/run/guildhall/https/tls.crt" -}}
{{- $_ := set $config "httpsKey" "/run/guildhall/https/tls.key" -}}
{{- end -}}
{{- else if has .component (list "router" "expert") -}}
{{- $_ := set $config "listen" (include "guildhall.listen" (dict "root" $root "port" "grpc")) -}}
{{- $_ := set $config "weights" $model.weights -}}
{{- $_ := set $config "kvDtype" $model.kvDtype -}}
{{- $_ := set $config "combine" $model.combine -}}
{{- $_ := set $config "bf16Kernels" $model.bf16Kernels -}}
{{- $_ := set $config "weightsCache" (include "guildhall.weightsCache" $root) -}}
{{- end -}}
{{- if eq .component "batch" -}}
{{- $_ := set $config "listen" (include "guildhall.listen" (dict "root" $root "port" "grpc")) -}}
{{- $_ := set $config "dataDir" "/var/lib/guildhall/batches" -}}
{{- end -}}
{{- if has .component (list "gateway" "router" "expert") -}}
{{- $_ := set $config "model" (include "guildhall.modelPath" $root) -}}
{{- end -}}
{{- if has .component (list "gateway" "router") -}}
{{- $_ := set $config "servedModelName" ($model.names | default (list (include "guildhall.servedName" $root))) -}}
{{- end -}}
{{- if eq .component "expert" -}}
{{- if .values.fromPeers.enabled -}}
{{- $_ := set $config "modelFromPeers" true -}}
{{- $_ := set $config "model" "/var/lib/guildhall/experts" -}}
{{- $_ := set $config "modelDiskMib" (mulf (include "guildhall.mib" .values.fromPeers.size | float64) 0.9 | floor | int64) -}}
{{- $_ := set $config "weightsCache" "off" -}}
{{- end -}}
{{- $limit := dig "resources" "limits" "memory" "" .values -}}
{{- if and $limit (not (hasKey $config "weightMemoryMib")) -}}
{{- $mib := include "guildhall.mib" $limit | float64 -}}
{{- $_ := set $config "weightMemoryMib" (mulf $mib .values.weightMemoryShare | floor | int64) -}}
{{- end -}}
{{- end -}}
{{- if and (eq .component "router") .values.kvDisk.enabled -}}
{{- $_ := set $config "kvDisk" "/var/lib/guildhall/kv" -}}
{{- $_ := set $config "kvDiskLimit" (printf "%dMiB" (mulf (include "guildhall.mib" .values.kvDisk.size | float64) 0.9 | floor | int64)) -}}
{{- end -}}
{{- toPrettyJson $config -}}
{{- end }}

{{/* A drain's limit with its linger in seconds, rounded up; the default is the service's own. Takes (dict root component values). */}}
{{- define "guildhall.drainSeconds" -}}
{{- $facts := include "guildhall.facts" .root | fromJson -}}
{{- $ms := dig .component 0 $facts.drainMs -}}
{{- if hasKey .values.config "drainMs" }}{{ $ms = .values.config.drainMs }}{{ end -}}
{{- $ms = add $ms (default 0 (dig "lingerMs" 0 .values.config)) -}}
{{- divf $ms 1000 | ceil | int64 -}}
{{- end }}
