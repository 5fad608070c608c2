#!/usr/bin/env bash
# Runs the product on Knative in a kind cluster, for users with Docker. Pushes an image to a
# registry beside the cluster, and waits until every node has it.
#
#   e2e/run-e2e.sh [--rm]      --rm removes the cluster and the registry at the end, also on failure
#
# Needs docker, kind, kubectl and make, and network access. Nobody has run this script yet: it was
# written without Docker, and only shellcheck has checked it. `make e2e` tests the manifests that it
# applies (e2e/harness/overlay.yaml and knative/) on the same versions of Knative. It does not test
# kind, the registry's container and the released manifests of Knative.
set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cluster=image-puller-e2e
namespace=k8s-image-puller
host=kubernetes-image-puller-webhooks.$namespace.example.test
registry=$cluster-registry:5000 # for nodes and pods
here=localhost:5001             # for this machine
port=31080                      # of the gateway, on every node
serving=knative-v1.21.0         # has the modules v0.48.0, Eventing v0.47.0, as in `make e2e`
eventing=knative-v1.20.0
timeout=300s
work=

say() { printf 'run-e2e: %s\n' "$*" >&2; }

fail() {
  say "$@"
  exit 1
}

kube() { kubectl --context "kind-$cluster" "$@"; }

clean_up() {
  local status=$?
  set +e
  if [[ -n $remove ]]; then
    kind delete cluster --name "$cluster"
    docker rm --force --volumes "$cluster-registry" >/dev/null
  fi
  rm -rf "$work"
  exit "$status"
}

make_cluster() {
  kind create cluster --name "$cluster" --wait "$timeout" --config - <<END
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
nodes: [{role: control-plane}, {role: worker}, {role: worker}]
containerdConfigPatches:
  - |-
    [plugins."io.containerd.grpc.v1.cri".registry]
      config_path = "/etc/containerd/certs.d"
END
  local node
  for node in $(kind get nodes --name "$cluster"); do
    docker exec "$node" mkdir -p "/etc/containerd/certs.d/$registry"
    echo "[host.\"http://$registry\"]" |
      docker exec -i "$node" cp /dev/stdin "/etc/containerd/certs.d/$registry/hosts.toml"
  done
}

# Its webhook is the public Service, by the gateway on the control plane node.
make_registry() {
  local address
  address=$(docker inspect --format '{{.NetworkSettings.Networks.kind.IPAddress}}' \
    "$cluster-control-plane")
  cat >"$work/registry.yml" <<END
version: 0.1
http: {addr: ":5000"}
storage: {filesystem: {rootdirectory: /var/lib/registry}}
notifications:
  endpoints:
    - name: image-puller
      url: http://$host:$port/webhooks/distribution
      headers: {Authorization: ["Bearer $secret"]}
      timeout: 10s
      threshold: 3
      backoff: 1s
END
  docker run --detach --name "$cluster-registry" --network kind --publish "127.0.0.1:5001:5000" \
    --add-host "$host:$address" \
    --volume "$work/registry.yml:/etc/docker/registry/config.yml:ro" registry:2 >/dev/null
}

release() { kube apply -f "https://github.com/$1/releases/download/$2/$3"; }

set_config() { kube patch configmap "$2" --namespace "$1" --type merge --patch "{\"data\": $3}"; }

install_knative() {
  local file space
  release knative/serving "$serving" serving-crds.yaml
  release knative/serving "$serving" serving-core.yaml
  release knative-extensions/net-kourier "$serving" kourier.yaml
  for file in eventing-crds eventing-core in-memory-channel mt-channel-broker; do
    release knative/eventing "$eventing" "$file.yaml"
  done
  for space in knative-serving kourier-system knative-eventing; do
    kube wait deployment --all --namespace "$space" --for condition=Available --timeout "$timeout"
  done
  set_config knative-serving config-network \
    '{"ingress-class": "kourier.ingress.networking.knative.dev"}'
  set_config knative-serving config-domain '{"example.test": ""}'
  # Knative would ask the registry by HTTPS.
  set_config knative-serving config-deployment \
    "{\"registries-skipping-tag-resolving\": \"$registry\"}"
  kube patch service kourier --namespace kourier-system --patch \
    "{\"spec\": {\"type\": \"NodePort\", \"ports\": [{\"port\": 80, \"nodePort\": $port}]}}"
}

# push IMAGE NAME: pushes the image to this name in the registry.
push() {
  docker tag "$1" "$here/$2"
  docker push --quiet "$here/$2"
}

install_product() {
  kube create namespace "$namespace"
  printf %s "$secret" | kube create secret generic image-puller-webhooks \
    --namespace "$namespace" --from-file distribution=/dev/stdin
  mkdir "$work/overlay"
  sed -e "s|\$knative|$(realpath --relative-to "$work/overlay" "$top/knative")|" \
    -e "s|\$service|$registry/puller|" -e "s|\$sleep|$registry/puller-sleep:e2e|" \
    -e "s|\$images|app=$registry/app:1.0.0|" -e "s|\$registry|$registry|" \
    "$top/e2e/harness/overlay.yaml" >"$work/overlay/kustomization.yaml"
  # This machine pushes to another host name than the one from which nodes pull.
  echo "      - REGISTRY_ALIASES=$here=$registry" >>"$work/overlay/kustomization.yaml"
  kube apply -k "$work/overlay"
  kube wait ksvc,broker,trigger,apiserversource,pingsource --all --namespace "$namespace" \
    --for condition=Ready --timeout "$timeout"
}

# wait_for_nodes IMAGE: waits until every node has the image.
wait_for_nodes() {
  local node
  for node in $(kind get nodes --name "$cluster"); do
    # The DaemonSet does not tolerate the taint of the control plane.
    [[ $node != *control-plane* ]] || continue
    timeout "$timeout" bash -c "until docker exec '$node' crictl inspecti '$1'; do sleep 1; done" \
      >/dev/null 2>&1 || fail "$node has no $1; see: kubectl describe daemonset -n $namespace"
    say "$node has $1"
  done
}

main() {
  remove=
  if [[ ${1:-} == --rm ]]; then
    remove=yes
    shift
  fi
  (($# == 0)) || fail "usage: e2e/run-e2e.sh [--rm]"
  local program
  for program in docker kind kubectl make; do
    command -v "$program" >/dev/null || fail "$program is needed"
  done
  work=$(mktemp -d)
  trap clean_up EXIT
  secret=$(od -An -N16 -tx1 /dev/urandom | tr -d ' ')

  make -C "$top" docker CONTAINER_TOOL=docker IMAGE_NAME="$registry/puller" IMAGE_TAG=e2e
  make_cluster
  make_registry
  push "$registry/puller:e2e" puller:e2e
  push "$registry/puller-sleep:e2e" puller-sleep:e2e
  push "$registry/puller-sleep:e2e" app:1.0.0
  install_knative
  install_product
  wait_for_nodes "$registry/app:1.0.0"
  push "$registry/puller-sleep:e2e" app:1.1.0
  wait_for_nodes "$registry/app:1.1.0"
  say "every node has the pushed image"
}

main "$@"
