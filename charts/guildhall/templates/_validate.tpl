{{/* Combinations that a schema cannot refuse. Each message says what to do. */}}
{{- define "guildhall.validate" -}}
{{- include "guildhall.validateModel" . -}}
{{- include "guildhall.validateScaling" . -}}
{{- include "guildhall.validateGroups" . -}}
{{- include "guildhall.validateRegistry" . -}}
{{- include "guildhall.validateAccess" . -}}
{{- end }}

{{- define "guildhall.validateModel" -}}
{{- $model := include "guildhall.model" . | fromJson -}}
{{- $values := .Values.model -}}
{{- if and (eq $model.kind "hf") (not (regexMatch "^[^/@]+/[^/@]+@[0-9a-f]{40}$" $model.ref)) -}}
{{- fail (printf "model.source: %s names no commit; pin one: hf://ORG/NAME@ and the 40 hexadecimal digits of a commit" $values.source) -}}
{{- end -}}
{{- if and (eq $model.kind "s3") (not $values.sha256) -}}
{{- fail "model.sha256: a bucket can change; give the SHA-256 of the checkpoint's manifest (`guildhall pull` prints it)" -}}
{{- end -}}
{{- if and (not (has $model.kind (list "bundled" "hf"))) (not $values.names) -}}
{{- fail "model.names: say under which name the model is served, such as [org/name]" -}}
{{- end -}}
{{- if and $values.path (or (eq $model.kind "bundled") $model.pulled) -}}
{{- fail (printf "model.path is a folder within a claim, directory or image; model.source is %s" $values.source) -}}
{{- end -}}
{{- range list "store" "weightsCache" -}}
{{- $folder := index $values . -}}
{{- if and (eq $folder.type "pvc") (not $folder.claimName) }}{{ fail (printf "model.%s.claimName: name the claim, or take another type" .) }}{{ end -}}
{{- if and (eq $folder.type "hostPath") (not $folder.hostPath) }}{{ fail (printf "model.%s.hostPath: name the folder, or take another type" .) }}{{ end -}}
{{- end -}}
{{- end }}

{{- define "guildhall.validateScaling" -}}
{{- $root := . -}}
{{- range list "gateway" "router" -}}
{{- $scaling := (index $root.Values .).autoscaling -}}
{{- if and (eq $scaling.type "keda") (not $scaling.triggers) -}}
{{- fail (printf "%s.autoscaling.triggers: KEDA needs a trigger at least" .) -}}
{{- end -}}
{{- if and (eq $scaling.type "hpa") (not $scaling.cpuUtilisation) (not $scaling.metrics) -}}
{{- fail (printf "%s.autoscaling: the HPA needs a metric: set cpuUtilisation or metrics" .) -}}
{{- end -}}
{{- if gt (int $scaling.min) (int $scaling.max) }}{{ fail (printf "%s.autoscaling: min is above max" .) }}{{ end -}}
{{- end -}}
{{- if and (eq .Values.autoscaler.mode "active") .Values.router.autoscaler.enabled (ne .Values.router.autoscaling.type "none") -}}
{{- fail "two scalers would fight over the routers: set router.autoscaling.type to none, or router.autoscaler.enabled to false" -}}
{{- end -}}
{{- $policy := .Values.autoscaler -}}
{{- if gt ($policy.scaleDownUtilisation | float64) (divf $policy.targetUtilisation $policy.headroom) -}}
{{- fail "autoscaler.scaleDownUtilisation is above targetUtilisation / headroom, so that pods that go would be called back at once: lower it" -}}
{{- end -}}
{{- if and $policy.scaleToZero.enabled (eq $policy.mode "active") (eq (dig "holdMs" 0 .Values.gateway.config | int) 0) -}}
{{- fail "autoscaler.scaleToZero needs gateways that hold requests while the model wakes up: set gateway.config.holdMs to longer than a start takes" -}}
{{- end -}}
{{- if and $policy.scaleToZero.enabled (ne $policy.mode "off") (not .Values.router.autoscaler.enabled) -}}
{{- fail "autoscaler.scaleToZero needs router.autoscaler.enabled: routers and workers go to zero and come back together" -}}
{{- end -}}
{{- end }}

{{- define "guildhall.validateGroups" -}}
{{- $names := dict -}}
{{- range .Values.expertGroups -}}
{{- if hasKey $names .name }}{{ fail (printf "expertGroups: two groups are named %s" .name) }}{{ end -}}
{{- $_ := set $names .name true -}}
{{- end -}}
{{- $local := eq (dig "experts" "remote" .Values.router.config) "local" -}}
{{- if and $local .Values.expertGroups -}}
{{- fail "router.config.experts is local, so that workers would never be asked: set expertGroups to []" -}}
{{- end -}}
{{- if and (not $local) (not .Values.expertGroups) -}}
{{- fail "expertGroups is empty: name a group at least, or set router.config.experts to local" -}}
{{- end -}}
{{- $files := 0 -}}
{{- range include "guildhall.groups" . | fromJsonArray -}}
{{- if not .fromPeers.enabled }}{{ $files = add $files 1 }}{{ end -}}
{{- if and .fromPeers.enabled .shard }}{{ fail (printf "expertGroups: %s: fromPeers fetches whatever the controller gives the worker; leave shard empty" .name) }}{{ end -}}
{{- if gt (int .autoscaler.min) (int .autoscaler.max) }}{{ fail (printf "expertGroups: %s: autoscaler.min is above autoscaler.max" .name) }}{{ end -}}
{{- if lt (int .autoscaler.max) (int .autoscaler.redundancy) }}{{ fail (printf "expertGroups: %s: autoscaler.redundancy is above autoscaler.max" .name) }}{{ end -}}
{{- end -}}
{{- if and .Values.expertGroups (eq (int $files) 0) -}}
{{- fail "every expert group has fromPeers.enabled, so that none has files to give: leave one group without" -}}
{{- end -}}
{{- end }}

{{- define "guildhall.validateRegistry" -}}
{{- $external := .Values.registry.external -}}
{{- if eq .Values.registry.mode "external" -}}
{{- if and (not $external.url) (not $external.existingSecret) -}}
{{- fail "registry.external: give url, or existingSecret with an entry for it" -}}
{{- end -}}
{{- if and (or $external.usernameKey $external.passwordKey $external.sentinelUsernameKey $external.sentinelPasswordKey) (not $external.existingSecret) -}}
{{- fail "registry.external.existingSecret: name the Secret that holds usernameKey and passwordKey" -}}
{{- end -}}
{{- if regexMatch "://[^/]*@" $external.url -}}
{{- fail "registry.external.url holds a password, which everybody who may read Deployments would see: put it into a Secret and name existingSecret and passwordKey" -}}
{{- end -}}
{{- if and $external.url (not (regexMatch "^rediss?(-sentinel|-cluster)?://.+" $external.url)) -}}
{{- fail "registry.external.url: write redis://, redis-sentinel:// or redis-cluster://, or rediss… for TLS" -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "guildhall.validateAccess" -}}
{{- $batch := .Values.batch -}}
{{- if and $batch.enabled (gt (int $batch.replicas) 1) (ne $batch.storage.accessMode "ReadWriteMany") -}}
{{- fail "batch.replicas is above 1: their files must be on a volume that all of them mount, so set batch.storage.accessMode to ReadWriteMany" -}}
{{- end -}}
{{- if and $batch.enabled .Values.gateway.https.existingSecret (not (dig "gatewayUrl" "" $batch.config)) -}}
{{- fail "batch.config.gatewayUrl: gateways serve HTTPS, so say under which URL their certificate is good (and NODE_EXTRA_CA_CERTS in batch.extraEnv where the authority is your own)" -}}
{{- end -}}
{{- if and .Values.gateway.ingress.enabled (not .Values.gateway.ingress.hosts) }}{{ fail "gateway.ingress.hosts: name a host" }}{{ end -}}
{{- if and .Values.gateway.httpRoute.enabled (not .Values.gateway.httpRoute.parentRefs) }}{{ fail "gateway.httpRoute.parentRefs: name a Gateway" }}{{ end -}}
{{- if and .Values.inferencePool.enabled (not .Values.inferencePool.endpointPicker.name) }}{{ fail "inferencePool.endpointPicker.name: name the Service of an endpoint picker; the pool works with none" }}{{ end -}}
{{- end }}
