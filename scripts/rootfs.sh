# Root file systems and initrds, for templates and for the lab. Source it after lib.sh.
# shellcheck shell=bash

# clean_env COMMAND...: nothing of this machine's environment gets into an image, apart
# from the proxy settings that a download needs.
clean_env() {
    local keep=() name
    for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
        if [[ -n ${!name:-} ]]; then keep+=("$name=${!name}"); fi
    done
    env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
        LANG=C.UTF-8 LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "${keep[@]}" "$@"
}

# bootstrap FOLDER SUITE SOURCES_LIST PACKAGE... [-- MMDEBSTRAP_OPTION...]
bootstrap() {
    local folder=$1 suite=$2 sources=$3 packages=() options=()
    shift 3
    while (($#)); do
        if [[ $1 == -- ]]; then
            shift
            options=("$@")
            break
        fi
        packages+=("$1")
        shift
    done
    # bin, sbin and lib are links from the start; else a package with perl behind it would do it
    case $suite in bookworm | trixie | forky | sid | noble) packages+=(usr-is-merged) ;; esac
    clean_env mmdebstrap --variant=apt --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr --format=directory --architectures=amd64 \
        --include="$(IFS=, && printf '%s' "${packages[*]}")" \
        --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Retries "3"' \
        --aptopt='Acquire::Languages "none"' \
        "${options[@]}" "$suite" "$folder" "$sources"
    # Users of the image get apt's own defaults, apart from translations that nobody reads.
    rm -f "$folder"/etc/apt/apt.conf.d/*mmdebstrap
    printf 'Acquire::Languages "none";\n' >"$folder/etc/apt/apt.conf.d/20no-translations"
    rm -f "$folder"/var/cache/apt/archives/*.deb
    rm -f "$folder"/etc/apt/sources.list.d/*
    install -m 644 "$sources" "$folder/etc/apt/sources.list"
}

# in_tree ROOT COMMAND...
in_tree() {
    local root=$1
    shift
    clean_env chroot "$root" "$@"
}

# The extra certificate authorities of this machine, known to everything in the tree.
install_ca() {
    local root=$1 file
    shift
    for file; do
        install -D -m 644 "$file" "$root/usr/local/share/ca-certificates/${file##*/}"
    done
    if (($#)); then in_tree "$root" update-ca-certificates; fi
}

# pack_ext4 FOLDER IMAGE SIZE_MIB LABEL [MKE2FS_OPTION...]: a sparse image without mounting.
#
# Inode tables are marked zeroed (the file is sparse, so that costs nothing): otherwise the
# kernel would write hundreds of MB of zeros to every sandbox's own copy after the mount.
# resize: a sandbox may grow it to 256 GiB (the largest diskMB) while mounted; without it the
# kernel needs more journal than there is. The small journal keeps repeated writes on few
# clusters of the copy-on-write overlay.
pack_ext4() {
    local folder=$1 image=$2 size=$3 label=$4
    shift 4
    rm -f "$image"
    truncate -s "${size}M" "$image"
    mke2fs -q -F -t ext4 -b 4096 -m 0 -L "$label" -J size=16 \
        -E lazy_itable_init=0,lazy_journal_init=1,root_owner=0:0,resize=67108864 "$@" \
        -d "$folder" "$image"
    tune2fs -c 0 -i 0 "$image" >/dev/null
}

# module_path KERNEL NAME: path of a module below modules/VERSION, nothing when built in.
module_path() {
    local dep name=${2//[-_]/[-_]}
    dep=$1/modules/$(<"$1/version")/modules.dep
    sed -n -E "s#^([^:]*/$name\.ko(\.xz|\.zst)?):.*#\1#p" "$dep" | head -n 1
}

# module_closure KERNEL NAME...: paths with all they depend on, in insmod order.
module_closure() {
    local kernel=$1 base name path word
    shift
    base=$kernel/modules/$(<"$kernel/version")
    for name; do
        path=$(module_path "$kernel" "$name")
        if [[ -z $path ]]; then
            grep -Eq "/${name//[-_]/[-_]}\.ko$" "$base/modules.builtin" && continue
            die "the kernel in $kernel has no module '$name': use another kernel package"
        fi
        for word in $(sed -n "s#^$path: *##p" "$base/modules.dep" | tr ' ' '\n' | tac); do
            printf '%s\n' "$word"
        done
        printf '%s\n' "$path"
    done | awk '!seen[$0]++'
}

# copy_modules KERNEL FOLDER NAME...: FOLDER/*.ko, unpacked, and FOLDER/order.
copy_modules() {
    local kernel=$1 folder=$2 path name base
    shift 2
    base=$kernel/modules/$(<"$kernel/version")
    mkdir -p "$folder"
    : >"$folder/order"
    while IFS= read -r path; do
        name=${path##*/}
        case $name in
        *.xz) xz -dc "$base/$path" >"$folder/${name%.xz}" ;;
        *.zst) zstd -dcq "$base/$path" >"$folder/${name%.zst}" ;;
        *) cp "$base/$path" "$folder/$name" ;;
        esac
        name=${name%.xz}
        printf '%s\n' "${name%.zst}" >>"$folder/order"
    done < <(module_closure "$kernel" "$@")
    chmod 644 "$folder"/*
}

# pack_initrd FOLDER FILE: a reproducible newc archive, owned by root. Not compressed: it is
# a few MB, and unpacking takes the guest longer than reading it takes us.
pack_initrd() {
    find "$1" -exec touch -h -d @0 {} +
    (cd "$1" && find . -mindepth 1 -printf '%P\n' | LC_ALL=C sort |
        cpio --quiet --reproducible -R 0:0 -H newc -o) >"$2.new"
    mv "$2.new" "$2"
}
