{{/* Append-only file, flushed every second; no snapshots beside it. Never evicts: a full server refuses writes, which is seen. */}}
{{- define "guildhall.valkeyConfig" -}}
{{- if .Values.tls.enabled -}}
port 0
tls-port {{ include "guildhall.port" "valkey" }}
tls-cert-file /run/guildhall/tls/tls.crt
tls-key-file /run/guildhall/tls/tls.key
tls-ca-cert-file /run/guildhall/tls/ca.crt
tls-auth-clients yes
{{- else -}}
port {{ include "guildhall.port" "valkey" }}
{{- end }}
bind * -::*
dir /data
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
{{- with dig "resources" "limits" "memory" "" .Values.registry.bundled }}
maxmemory {{ mulf (include "guildhall.mib" . | float64) 0.75 | floor | int64 }}mb
{{- end }}
{{- with .Values.registry.bundled.extraConfig }}
{{ . }}
{{- end }}
{{- end }}

{{- define "guildhall.valkeyProbe" -}}
exec:
  command:
    - valkey-cli
    - -e
    - -p
    - {{ include "guildhall.port" "valkey" | quote }}
    {{- if .Values.tls.enabled }}
    - --tls
    - --cacert
    - /run/guildhall/tls/ca.crt
    - --cert
    - /run/guildhall/tls/tls.crt
    - --key
    - /run/guildhall/tls/tls.key
    - --sni
    - {{ include "guildhall.registryHost" . }}
    {{- end }}
    - ping
timeoutSeconds: 5
{{- end }}

{{- define "guildhall.valkeyContainer" -}}
{{- $values := .Values.registry.bundled -}}
- name: valkey
  image: {{ include "guildhall.imageRef" (dict "root" . "image" $values.image "defaultTag" "9.1-alpine") }}
  imagePullPolicy: {{ $values.image.pullPolicy }}
  command: [valkey-server]
  args: [/etc/valkey/valkey.conf, --requirepass, $(VALKEYCLI_AUTH)]
  env:
    # The name under which valkey-cli takes a password.
    - name: VALKEYCLI_AUTH
      valueFrom:
        secretKeyRef:
          name: {{ include "guildhall.registrySecret" . }}
          key: password
    - name: REDISCLI_AUTH
      value: $(VALKEYCLI_AUTH)
  ports:
    - name: valkey
      containerPort: {{ include "guildhall.port" "valkey" }}
  startupProbe:
    {{- include "guildhall.valkeyProbe" . | nindent 4 }}
    periodSeconds: 2
    failureThreshold: 90
  readinessProbe:
    {{- include "guildhall.valkeyProbe" . | nindent 4 }}
    periodSeconds: 5
  livenessProbe:
    tcpSocket:
      port: valkey
    periodSeconds: 10
    failureThreshold: 6
    timeoutSeconds: 5
  {{- with $values.resources }}
  resources:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    {{- include "guildhall.securityContext" . | nindent 4 }}
  terminationMessagePolicy: FallbackToLogsOnError
  volumeMounts:
    - name: config
      mountPath: /etc/valkey
      readOnly: true
    - name: data
      mountPath: /data
    - name: tmp
      mountPath: /tmp
    {{- with include "guildhall.tlsMounts" . | trim }}{{ . | nindent 4 }}{{ end }}
{{- end }}
