# The instance that most tests share.
# shellcheck shell=bash

setup_suite() {
    : "${E2E_SCRATCH:?tests/faults/run is what runs these tests}"
    # shellcheck source=faults.bash
    source "$(dirname "${BASH_SOURCE[0]}")/faults.bash"
    start_instance shared RECEIPTD_THREADS=2
    use_instance shared
    keep_template
}
