# Where the node runs: on this machine with its KVM, or in the lab. Source it after lib.sh.
# shellcheck shell=bash disable=SC2034

DATA_DIR=${SHOAL_DATA:-/var/lib/shoal}
RUN_DIR=${SHOAL_RUN:-/run/shoal}

# choose_engine: sets ENGINE to kvm or lab and WHY to the reason. SHOAL_ENGINE overrides.
choose_engine() {
    case ${SHOAL_ENGINE:-} in
    kvm | lab)
        ENGINE=$SHOAL_ENGINE
        WHY='SHOAL_ENGINE says so'
        return
        ;;
    '') ;;
    *) die "SHOAL_ENGINE is '$SHOAL_ENGINE': set it to kvm or lab, or leave it out" ;;
    esac
    ENGINE=lab
    if ! grep -Eqw 'vmx|svm' /proc/cpuinfo; then
        WHY='/proc/cpuinfo shows neither vmx nor svm'
    elif [[ ! -e /dev/kvm ]]; then
        WHY='there is no /dev/kvm'
    elif ! as_root bash -c ': <>/dev/kvm' 2>/dev/null; then
        WHY='/dev/kvm does not open'
    else
        ENGINE=kvm
        WHY='the CPU has vmx or svm and /dev/kvm opens'
    fi
}

# Several nodes on one machine: scripts/up --nodes keeps their number here.
nodes_count() { cat "$SHOAL_STATE/nodes" 2>/dev/null || echo 1; }

# node_paths [INDEX]: paths and addresses as that node sees them. Node 1 lives in the machine
# itself, every further one in a network namespace (scripts/node-net).
node_paths() {
    local base
    NODE_INDEX=${1:-1}
    if [[ $ENGINE == lab ]]; then
        NODE_DATA=/var/lib/shoal NODE_RUN=/run/shoal NODE_BIN=/opt/shoal/bin
        NODE_LISTEN=0.0.0.0:8080 NODE_API_PORT=8080
    else
        NODE_DATA=$DATA_DIR NODE_RUN=$RUN_DIR NODE_BIN=$SHOAL_STATE/bin
        NODE_LISTEN=${SHOAL_LISTEN:-127.0.0.1:$SHOAL_PORT} NODE_API_PORT=$SHOAL_PORT
    fi
    base=${NODE_RUN##*/}
    NODE_NET=10.209.$((NODE_API_PORT % 250)) NODE_NET_NAME=${base:0:8} NODE_NS=''
    NODE_HOST_PORT=$((SHOAL_PORT + NODE_INDEX - 1)) # where its API is reached from here
    NODE_MESH=''
    NODE_NAME=''
    if (($(nodes_count) > 1 || NODE_INDEX > 1)); then
        NODE_MESH=$NODE_NET.$NODE_INDEX NODE_NAME=node-$NODE_INDEX
    fi
    if ((NODE_INDEX > 1)); then
        NODE_DATA=$NODE_DATA/nodes/$NODE_INDEX NODE_RUN=$NODE_RUN-$NODE_INDEX
        NODE_LISTEN=0.0.0.0:8080 NODE_NS=$NODE_NET_NAME-$NODE_INDEX
    fi
}

# on_node COMMAND...: as root on the machine that runs the node, with no input.
on_node() {
    if [[ $ENGINE == lab ]]; then
        "$SHOAL_ROOT/scripts/lab" exec "$@" </dev/null
    else
        as_root "$@" </dev/null
    fi
}

# Runs scripts/node-host there.
node_host() {
    on_node env DATA="$NODE_DATA" RUN="$NODE_RUN" BIN="$NODE_BIN" LISTEN="$NODE_LISTEN" \
        DOMAIN="localhost:$NODE_HOST_PORT" PUBLIC_URL="http://localhost:$NODE_HOST_PORT" \
        NS="$NODE_NS" MESH_ADDRESS="$NODE_MESH" NODE_NAME="$NODE_NAME" NODES="$(nodes_count)" \
        LOG_LEVEL="${SHOAL_LOG_LEVEL:-info}" "$NODE_BIN/node-host" "$@"
}

# Runs scripts/node-net there.
node_net() {
    on_node env NET="$NODE_NET" NAME="$NODE_NET_NAME" API_PORT="$NODE_API_PORT" "$NODE_BIN/node-net" "$@"
}

# Programs, helper and initrd of one build, in $SHOAL_STATE/bin; in the lab also pushed there.
stage_programs() {
    local build=$SHOAL_ROOT/build/${1:-release} bin=$SHOAL_STATE/bin program agent hash
    mkdir -p "$bin"
    for program in node/shoald node/shoal-egress vmm-kvm/shoal-vmm client/shoal tests/agent/agentctl; do
        if [[ -x $build/$program ]]; then stage_file "$build/$program" "$bin/${program##*/}"; fi
    done
    for program in node-host node-net; do
        stage_file "$SHOAL_ROOT/scripts/$program" "$bin/$program"
    done
    agent=$build/agent/shoal-agent
    hash=$(hash_text "$(sha256sum <"$agent")" "$("$SHOAL_ROOT/scripts/kernel")" \
        "$(cat "$SHOAL_ROOT"/scripts/{initrd,rootfs.sh})")
    if [[ ! -f $bin/initrd || $(cat "$bin/initrd.hash" 2>/dev/null) != "$hash" ]]; then
        "$SHOAL_ROOT/scripts/initrd" "$agent" "$bin/initrd"
        printf '%s\n' "$hash" >"$bin/initrd.hash"
    fi
}

stage_file() {
    cmp -s "$1" "$2" && return
    cp "$1" "$2.new"
    mv "$2.new" "$2"
}

push_programs() {
    local bin=$SHOAL_STATE/bin hash
    hash=$(hash_tree "$bin")
    if [[ $ENGINE == lab ]]; then
        if [[ $(on_node cat /opt/shoal/hash 2>/dev/null) != "$hash" ]]; then
            "$SHOAL_ROOT/scripts/lab" push "$bin" "$NODE_BIN"
            on_node sh -c "install -D -m 644 $NODE_BIN/initrd $NODE_DATA/kernel/initrd.new && mv $NODE_DATA/kernel/initrd.new $NODE_DATA/kernel/initrd && echo $hash >/opt/shoal/hash"
        fi
    else
        as_root install -D -m 644 "$bin/initrd" "$NODE_DATA/kernel/initrd.new"
        as_root mv "$NODE_DATA/kernel/initrd.new" "$NODE_DATA/kernel/initrd"
        as_root ln -sfn "$("$SHOAL_ROOT/scripts/kernel")/vmlinux" "$NODE_DATA/kernel/vmlinux"
    fi
}

# link_template FOLDER: gives a built template its place in the data folder of a KVM node; in
# the lab payload disks do that.
link_template() {
    local name
    name=$(jq -r .name "$1/template.json")
    as_root mkdir -p "$NODE_DATA/templates/$name"
    as_root ln -sfn "$1/disk.raw" "$1/template.json" "$NODE_DATA/templates/$name/"
}
