// SPDX-License-Identifier: Apache-2.0

extension Disk {
    /// Whether another nexus's reservation forbids a command.
    func conflictsWithReservation(_ operation: Operation, _ execution: Execution) -> Bool {
        false
    }
}
