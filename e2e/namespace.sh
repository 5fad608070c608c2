# Functions of e2e/run and e2e/cluster: they make a network namespace, and end and remove all that
# runs in it, with cgroups. To be sourced by scripts with `set -euo pipefail`.
#
# `namespace` is the name of the network namespace. `run` is the name of the run's folder, and of
# the cgroups of its nodes.
# shellcheck shell=bash

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# As in e2e/harness/workspace.py: not on loopback, where Kubernetes takes no endpoints.
address=10.246.0.1
more_addresses=(10.246.0.2 10.246.0.3) # of further nodes
# Folders in which Kubernetes and containerd write, whatever their configuration.
private=(/run/containerd /var/lib/cni /var/lib/kubelet /var/log/containers /var/log/pods)
# The folder of the cluster that `make e2e-up` keeps, one for each clone. A reboot empties /run.
kept=/run/image-puller-e2e.kept-$(sha256sum <<<"$top" | cut -c 1-8)
namespace=
run=

say() { printf 'e2e: %s\n' "$*" >&2; }

fail() {
  say "$@"
  exit 1
}

# missing_packages COMPONENT…: prints the missing packages that these components need.
missing_packages() {
  local needed="docker-registry:docker-registry ip:iproute2 nsenter:util-linux flock:util-linux"
  needed+=" openssl:openssl"
  if [[ " $* " == *" kubernetes-node "* ]]; then
    needed+=" runc:runc nft:nftables make:make gcc:gcc"
    needed+=" /usr/lib/cni/ptp:containernetworking-plugins"
    [[ ${E2E_KUBERNETES:-} != oldest ]] || needed+=" iptables:iptables"
  fi
  # As in e2e/harness/browser.py. On Ubuntu the package needs snap, so Chrome counts as well.
  if [[ " $* " == *" chromium "* && -z $(type -P chromium chromium-browser google-chrome) ]]; then
    needed+=" chromium:chromium"
  fi
  local pair
  for pair in $needed; do
    command -v "${pair%%:*}" >/dev/null || echo "${pair##*:}"
  done | sort -u
}

check_root() {
  local packages
  ((EUID)) || return 0
  packages=$(missing_packages "$@" | xargs)
  fail "must be root: it makes a network namespace${packages:+ and installs $packages}"
}

install_packages() {
  local packages
  mapfile -t packages < <(missing_packages "$@")
  ((${#packages[@]})) || return 0
  command -v apt-get >/dev/null || fail "install first: ${packages[*]} (there is no apt-get here)"
  say "installing ${packages[*]}"
  # Packages start no services in runlevel 1. systemd ignores that, so disable the service below.
  {
    apt-get update -qq &&
      RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
        apt-get install -o DPkg::Lock::Timeout=300 -qq --yes --no-install-recommends \
          "${packages[@]}"
  } </dev/null >/dev/null || fail "can't install ${packages[*]}"
  [[ -d /run/systemd/system ]] || return 0
  [[ " ${packages[*]} " != *" docker-registry "* ]] ||
    systemctl disable --quiet --now docker-registry
}

inside() { nsenter "--net=/run/netns/$namespace" "$@"; }

make_namespace() {
  ip netns add "$1"
  namespace=$1
  inside ip link set lo up
  local each
  for each in "$address" "${more_addresses[@]}"; do
    inside ip address add "$each/32" dev lo
  done
  # Without a default route, addresses of the cluster are "unreachable".
  inside ip link add v0 type veth peer name v1
  inside ip link set v0 up
  inside ip link set v1 up
  inside ip route add default dev v0 src "$address"
  inside sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
}

# Containers have network namespaces of their own, so only the nodes' cgroups lead to them.
leftovers() {
  if [[ -n $namespace ]]; then ip netns pids "$namespace"; fi
  find /sys/fs/cgroup -path "*/$run/*" -name cgroup.procs -exec cat {} + 2>/dev/null | sort -u
}

kill_leftovers() {
  local pids
  for _ in {1..100}; do
    mapfile -t pids < <(leftovers)
    ((${#pids[@]})) || return 0
    kill -KILL "${pids[@]}" 2>/dev/null || true
    sleep 0.05
  done
  say "can't stop ${pids[*]}"
}

# Other runs can use these folders as well; the last one removes them.
remove_private_folders() {
  compgen -G "/run/netns/image-puller-e2e.*" >/dev/null ||
    rmdir --ignore-fail-on-non-empty "${private[@]}" 2>/dev/null
}

# Kills all processes in the namespace and in the run's cgroups, and removes both.
remove_namespace() {
  kill_leftovers
  find /sys/fs/cgroup -depth -type d -path "*/$run*" -exec rmdir {} +
  if [[ -n $namespace ]]; then ip netns delete "$namespace"; fi
  remove_private_folders
}
