package joingate_test

// The types below are the fields of the Kubernetes API (version 1.30) and of the
// Compose specification that these objects have, down to where a value is what it
// is: yaml refuses every other field, and a value of another type. It is no
// substitute for a server's own check: whole numbers pass where it wants them
// smaller, and what a field means together with another is only looked at below.

type labels map[string]string

type objectMeta struct {
	Name, Namespace string
	Labels          labels
	Annotations     map[string]string
}

type typeMeta struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string
}

type labelSelector struct {
	MatchLabels      labels `yaml:"matchLabels"`
	MatchExpressions []struct {
		Key, Operator string
		Values        []string
	} `yaml:"matchExpressions"`
}

type configMap struct {
	typeMeta   `yaml:",inline"`
	Metadata   objectMeta
	Data       map[string]string
	BinaryData map[string]string `yaml:"binaryData"`
	Immutable  bool
}

type service struct {
	typeMeta `yaml:",inline"`
	Metadata objectMeta
	Spec     struct {
		Selector labels
		Type     string
		Ports    []struct {
			Name, Protocol string
			AppProtocol    string `yaml:"appProtocol"`
			Port           int
			TargetPort     any `yaml:"targetPort"`
			NodePort       int `yaml:"nodePort"`
		}
		ClusterIP             string `yaml:"clusterIP"`
		SessionAffinity       string `yaml:"sessionAffinity"`
		ExternalTrafficPolicy string `yaml:"externalTrafficPolicy"`
		InternalTrafficPolicy string `yaml:"internalTrafficPolicy"`
	}
}

type deployment struct {
	typeMeta `yaml:",inline"`
	Metadata objectMeta
	Spec     struct {
		Replicas                int
		RevisionHistoryLimit    int `yaml:"revisionHistoryLimit"`
		MinReadySeconds         int `yaml:"minReadySeconds"`
		ProgressDeadlineSeconds int `yaml:"progressDeadlineSeconds"`
		Paused                  bool
		Strategy                struct {
			Type          string
			RollingUpdate struct {
				MaxUnavailable any `yaml:"maxUnavailable"`
				MaxSurge       any `yaml:"maxSurge"`
			} `yaml:"rollingUpdate"`
		}
		Selector labelSelector
		Template struct {
			Metadata objectMeta
			Spec     podSpec
		}
	}
}

type podSpec struct {
	AutomountServiceAccountToken  *bool                   `yaml:"automountServiceAccountToken"`
	EnableServiceLinks            *bool                   `yaml:"enableServiceLinks"`
	TerminationGracePeriodSeconds int                     `yaml:"terminationGracePeriodSeconds"`
	RestartPolicy                 string                  `yaml:"restartPolicy"`
	ServiceAccountName            string                  `yaml:"serviceAccountName"`
	PriorityClassName             string                  `yaml:"priorityClassName"`
	HostNetwork                   bool                    `yaml:"hostNetwork"`
	HostPID                       bool                    `yaml:"hostPID"`
	HostIPC                       bool                    `yaml:"hostIPC"`
	HostUsers                     *bool                   `yaml:"hostUsers"`
	DNSPolicy                     string                  `yaml:"dnsPolicy"`
	ImagePullSecrets              []struct{ Name string } `yaml:"imagePullSecrets"`
	NodeSelector                  labels                  `yaml:"nodeSelector"`
	Affinity                      map[string]any
	Tolerations                   []map[string]any
	SecurityContext               struct {
		RunAsNonRoot        bool    `yaml:"runAsNonRoot"`
		RunAsUser           int64   `yaml:"runAsUser"`
		RunAsGroup          int64   `yaml:"runAsGroup"`
		FSGroup             int64   `yaml:"fsGroup"`
		FSGroupChangePolicy string  `yaml:"fsGroupChangePolicy"`
		SupplementalGroups  []int64 `yaml:"supplementalGroups"`
		SeccompProfile      struct {
			Type             string
			LocalhostProfile string `yaml:"localhostProfile"`
		} `yaml:"seccompProfile"`
	} `yaml:"securityContext"`
	TopologySpreadConstraints []struct {
		MaxSkew           int           `yaml:"maxSkew"`
		MinDomains        int           `yaml:"minDomains"`
		TopologyKey       string        `yaml:"topologyKey"`
		WhenUnsatisfiable string        `yaml:"whenUnsatisfiable"`
		LabelSelector     labelSelector `yaml:"labelSelector"`
	} `yaml:"topologySpreadConstraints"`
	InitContainers []container `yaml:"initContainers"`
	Containers     []container
	Volumes        []struct {
		Name      string
		ConfigMap *struct {
			Name        string
			Optional    bool
			DefaultMode int `yaml:"defaultMode"`
			Items       []keyToPath
		} `yaml:"configMap"`
		Secret *struct {
			SecretName  string `yaml:"secretName"`
			Optional    bool
			DefaultMode int `yaml:"defaultMode"`
			Items       []keyToPath
		}
		EmptyDir *struct {
			Medium    string
			SizeLimit string `yaml:"sizeLimit"`
		} `yaml:"emptyDir"`
		PersistentVolumeClaim *struct {
			ClaimName string `yaml:"claimName"`
			ReadOnly  bool   `yaml:"readOnly"`
		} `yaml:"persistentVolumeClaim"`
	}
}

type keyToPath struct {
	Key, Path string
	Mode      int
}

type container struct {
	Name, Image     string
	ImagePullPolicy string `yaml:"imagePullPolicy"`
	Command, Args   []string
	WorkingDir      string `yaml:"workingDir"`
	Env             []struct {
		Name, Value string
		ValueFrom   map[string]any `yaml:"valueFrom"`
	}
	Ports []struct {
		Name, Protocol string
		ContainerPort  int `yaml:"containerPort"`
		HostPort       int `yaml:"hostPort"`
	}
	ReadinessProbe *probe `yaml:"readinessProbe"`
	LivenessProbe  *probe `yaml:"livenessProbe"`
	StartupProbe   *probe `yaml:"startupProbe"`
	Lifecycle      struct {
		PreStop struct {
			Sleep *struct{ Seconds int64 }
			Exec  *struct{ Command []string }
		} `yaml:"preStop"`
	}
	Resources       struct{ Requests, Limits map[string]string }
	SecurityContext struct {
		AllowPrivilegeEscalation *bool `yaml:"allowPrivilegeEscalation"`
		ReadOnlyRootFilesystem   bool  `yaml:"readOnlyRootFilesystem"`
		Privileged               bool
		RunAsNonRoot             bool  `yaml:"runAsNonRoot"`
		RunAsUser                int64 `yaml:"runAsUser"`
		Capabilities             struct{ Add, Drop []string }
	} `yaml:"securityContext"`
	VolumeMounts []struct {
		Name      string
		MountPath string `yaml:"mountPath"`
		SubPath   string `yaml:"subPath"`
		ReadOnly  bool   `yaml:"readOnly"`
	} `yaml:"volumeMounts"`
}

type probe struct {
	HTTPGet *struct {
		Path, Host, Scheme string
		Port               any
	} `yaml:"httpGet"`
	TCPSocket           *struct{ Port any } `yaml:"tcpSocket"`
	InitialDelaySeconds int                 `yaml:"initialDelaySeconds"`
	PeriodSeconds       int                 `yaml:"periodSeconds"`
	TimeoutSeconds      int                 `yaml:"timeoutSeconds"`
	FailureThreshold    int                 `yaml:"failureThreshold"`
	SuccessThreshold    int                 `yaml:"successThreshold"`
}

type podDisruptionBudget struct {
	typeMeta `yaml:",inline"`
	Metadata objectMeta
	Spec     struct {
		MinAvailable               any `yaml:"minAvailable"`
		MaxUnavailable             any `yaml:"maxUnavailable"`
		Selector                   labelSelector
		UnhealthyPodEvictionPolicy string `yaml:"unhealthyPodEvictionPolicy"`
	}
}

type horizontalPodAutoscaler struct {
	typeMeta `yaml:",inline"`
	Metadata objectMeta
	Spec     struct {
		ScaleTargetRef struct {
			APIVersion string `yaml:"apiVersion"`
			Kind, Name string
		} `yaml:"scaleTargetRef"`
		MinReplicas int `yaml:"minReplicas"`
		MaxReplicas int `yaml:"maxReplicas"`
		Metrics     []struct {
			Type     string
			Resource *struct {
				Name   string
				Target struct {
					Type               string
					AverageUtilization int    `yaml:"averageUtilization"`
					AverageValue       string `yaml:"averageValue"`
					Value              string
				}
			}
		}
		Behavior struct {
			ScaleUp   scalingRules `yaml:"scaleUp"`
			ScaleDown scalingRules `yaml:"scaleDown"`
		}
	}
}

type scalingRules struct {
	StabilizationWindowSeconds int    `yaml:"stabilizationWindowSeconds"`
	SelectPolicy               string `yaml:"selectPolicy"`
	Policies                   []struct {
		Type          string
		Value         int
		PeriodSeconds int `yaml:"periodSeconds"`
	}
}

type networkPolicy struct {
	typeMeta `yaml:",inline"`
	Metadata objectMeta
	Spec     struct {
		PodSelector labelSelector `yaml:"podSelector"`
		PolicyTypes []string      `yaml:"policyTypes"`
		Ingress     []struct {
			From  []policyPeer
			Ports []policyPort
		}
		Egress []struct {
			To    []policyPeer
			Ports []policyPort
		}
	}
}

type policyPeer struct {
	PodSelector       *labelSelector `yaml:"podSelector"`
	NamespaceSelector *labelSelector `yaml:"namespaceSelector"`
	IPBlock           *struct {
		CIDR   string
		Except []string
	} `yaml:"ipBlock"`
}

type policyPort struct {
	Protocol string
	Port     any
	EndPort  int `yaml:"endPort"`
}

// compose is the Compose specification's file, with the fields of services that
// are in use, or could be here.
type compose struct {
	Name     string
	Services map[string]composeService
	Secrets  map[string]struct{ File, Environment, Name string }
	Volumes  map[string]*struct {
		Name, Driver string
		External     bool
	}
	Networks map[string]*struct {
		Driver   string
		Internal bool
	}
	Template composeService `yaml:"x-joingate"`
}

type composeService struct {
	Image string
	Build *struct {
		Context, Dockerfile, Target string
		Args                        map[string]string
	}
	Command, Entrypoint []string
	Environment         map[string]string
	Volumes, Ports      []string
	Expose              []string
	Secrets             []string
	DependsOn           map[string]struct {
		Condition string
		Required  *bool
	} `yaml:"depends_on"`
	Restart         string
	StopGracePeriod string `yaml:"stop_grace_period"`
	StopSignal      string `yaml:"stop_signal"`
	ReadOnly        bool   `yaml:"read_only"`
	User            string
	Tmpfs           []string
	CapDrop         []string `yaml:"cap_drop"`
	CapAdd          []string `yaml:"cap_add"`
	SecurityOpt     []string `yaml:"security_opt"`
	Healthcheck     *struct {
		Test        []string
		Interval    string
		Timeout     string
		Retries     int
		StartPeriod string `yaml:"start_period"`
	}
	ShmSize  string `yaml:"shm_size"`
	Networks []string
}
