# Where packages come from: derived from the apt configuration of this machine.
# Settings: SHOAL_DISTRIBUTION, SHOAL_SUITE, SHOAL_MIRROR, SHOAL_COMPONENTS, SHOAL_KEYRING.
# Source it after lib.sh.
# shellcheck shell=bash

host_distribution() { (. /etc/os-release && printf '%s' "$ID"); }
host_suite() { (. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}"); }

# Repositories of the distribution itself that apt knows, as lines "uri suite component".
host_repositories() {
    apt-get indextargets --format '$(LABEL)|$(REPO_URI) $(RELEASE) $(COMPONENT)' \
        'Created-By: Packages' 2>/dev/null |
        sed -n -E 's/^(Debian|Debian-Security|Ubuntu)\|//p' | sort -u
}

keyring_of() {
    local file=${SHOAL_KEYRING:-/usr/share/keyrings/$1-archive-keyring.gpg}
    if [[ -f $file ]]; then printf '%s' "$file"; fi
}

# apt_sources DISTRIBUTION SUITE: lines for a sources.list.
apt_sources() {
    local distribution=$1 suite=$2 keyring options='' lines uri release parts
    keyring=$(keyring_of "$distribution")
    if [[ -n $keyring ]]; then options="[signed-by=$keyring] "; fi
    if [[ -n ${SHOAL_MIRROR:-} ]]; then
        parts=${SHOAL_COMPONENTS:-main}
        if [[ -z ${SHOAL_COMPONENTS:-} && $distribution == ubuntu ]]; then parts='main universe'; fi
        printf 'deb %s%s %s %s\n' "$options" "$SHOAL_MIRROR" "$suite" "$parts"
        return
    fi
    [[ $distribution == "$(host_distribution)" ]] ||
        die "the apt sources of this machine are for $(host_distribution), not $distribution: set SHOAL_MIRROR to a mirror of $distribution"
    lines=$(host_repositories)
    if [[ -z $lines ]]; then
        as_root apt-get -q update >/dev/null 2>&1 || true
        lines=$(host_repositories)
    fi
    [[ -n $lines ]] ||
        die "apt knows no repository of $distribution: repair its sources or set SHOAL_MIRROR"
    # one line for each uri and suite, another suite of the same distribution put in its place
    while read -r uri release; do
        parts=$(awk -v u="$uri" -v r="$release" '$1 == u && $2 == r {printf "%s ", $3}' <<<"$lines")
        if [[ -n ${SHOAL_COMPONENTS:-} ]]; then parts=$SHOAL_COMPONENTS; fi
        printf 'deb %s%s %s %s\n' "$options" "$uri" \
            "${release/#"$(host_suite)"/$suite}" "${parts% }"
    done < <(cut -d ' ' -f 1,2 <<<"$lines" | uniq)
}
