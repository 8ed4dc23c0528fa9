// SPDX-License-Identifier: Apache-2.0
import Foundation

/// Starts of processes by Foundation, one at a time.
///
/// Neither its pipes nor the socket by which it learns of a process's end are closed in what another
/// thread starts at that very moment: whoever waits for their end would wait for a stranger's.
public enum ProcessStart {
    private static let turn = NSLock()

    /// Makes the pipes of a process and starts it.
    public static func alone<Result>(_ body: () throws -> Result) rethrows -> Result {
        try turn.withLock(body)
    }
}
