// SPDX-License-Identifier: Apache-2.0

import Foundation

/// What this process, or this thread, takes from the machine.
enum ProcessUsage {
    /// Bytes of memory in use.
    static var residentByteCount: Int {
        let fields = (try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8)) ?? ""
        return (Int(fields.split(separator: " ").dropFirst().first ?? "") ?? 0) * 4096
    }

    /// Processor time of the calling thread.
    static var threadTime: Duration {
        var time = timespec()
        // SAFETY: clock_gettime writes the local.
        unsafe clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
        return .seconds(time.tv_sec) + .nanoseconds(time.tv_nsec)
    }

    /// Open descriptors.
    static var descriptorCount: Int {
        (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").count) ?? 0
    }
}
