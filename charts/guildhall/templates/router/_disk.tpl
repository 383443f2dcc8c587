{{/* Folder of a router's own for KV pages: it goes with the pod, and is found again when only the process restarts. */}}
{{- define "guildhall.kvDiskVolume" -}}
- name: kv
{{- if .storageClassName }}
  ephemeral:
    volumeClaimTemplate:
      spec:
        accessModes: [ReadWriteOnce]
        storageClassName: {{ .storageClassName }}
        resources:
          requests:
            storage: {{ .size }}
{{- else }}
  emptyDir:
    sizeLimit: {{ .size }}
{{- end }}
{{- end }}
