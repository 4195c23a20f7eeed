# The section "A new field" of CONTRIBUTING.md, to be followed to the letter; sourced by tests/sql/run and tests/e2e/upgrade.bats.
# shellcheck shell=bash

contributing=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../CONTRIBUTING.md")

# recipe FILE: the script of that name on the page.
recipe() {
    awk -v wanted="\`$1\`:" '
        $0 == wanted { found = 1; next }
        found && /^    / { text = text substr($0, 5) "\n"; next }
        found && /^$/ { if (text != "") text = text "\n"; next }
        found { exit }
        END { printf "%s", text }
    ' "$contributing"
}

# recipe_words START: what stands on the page between backquotes and begins like this.
recipe_words() {
    grep -o "\`$1[^\`]*\`" "$contributing" | tr -d '`'
}
