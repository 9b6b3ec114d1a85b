{{- define "undertone.name" -}}
{{- printf "%s-undertone" .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- /* Of all pods. Not app.kubernetes.io/name, which KubeRay sets on its own. */ -}}
{{- define "undertone.selector" -}}
app.kubernetes.io/part-of: undertone
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "undertone.labels" -}}
{{ include "undertone.selector" . }}
app.kubernetes.io/name: undertone
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "undertone.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{- define "undertone.cudaImage" -}}
{{ .Values.image.repository }}:{{ .Values.image.cudaTag | default (printf "%s-cuda" .Chart.AppVersion) }}
{{- end -}}

{{- /* Where KubeRay's head service listens. */ -}}
{{- define "undertone.rayAddress" -}}
{{ include "undertone.name" . }}-head-svc:6379
{{- end -}}

{{- define "undertone.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "undertone.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- /* Folders that every pod writes or reads. */ -}}
{{- define "undertone.volumes" -}}
- name: tmp
  emptyDir: {}
- name: home
  emptyDir: {}
- name: shm
  emptyDir: {medium: Memory, sizeLimit: 1Gi}
{{- if .Values.redis.caSecret }}
- name: certs
  secret:
    secretName: {{ .Values.redis.caSecret }}
    items: [{key: ca.crt, path: ca.crt}]
{{- end }}
{{- if .Values.modelsClaim }}
- name: models
  persistentVolumeClaim: {claimName: {{ .Values.modelsClaim }}, readOnly: true}
{{- end }}
{{- end -}}

{{- define "undertone.volumeMounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: home, mountPath: /var/lib/undertone}
- {name: shm, mountPath: /dev/shm}
{{- if .Values.redis.caSecret }}
- {name: certs, mountPath: /certs, readOnly: true}
{{- end }}
{{- if .Values.modelsClaim }}
- {name: models, mountPath: /models, readOnly: true}
{{- end }}
{{- end -}}
