# The instance that the tests share.
# shellcheck shell=bash

setup_suite() {
    : "${E2E_SCRATCH:?tests/e2e/run is what runs these tests}"
    # shellcheck source=common.bash
    source "$(dirname "${BASH_SOURCE[0]}")/common.bash"
    start_instance shared RECEIPTD_THREADS=2
    use_instance shared
    keep_template
}
