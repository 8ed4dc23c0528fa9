// SPDX-License-Identifier: Apache-2.0
import Foundation

/// What else this machine had to do.
enum MachineLoad {
    /// The time since boot in which somebody waited for a processor, or for a disk (/proc/pressure); zero
    /// where the kernel does not tell.
    static func waitedSinceBoot() -> Duration {
        ["cpu", "io"].map(waited).reduce(.zero, +)
    }

    /// `some avg10=… avg60=… avg300=… total=MICROSECONDS`.
    private static func waited(for resource: String) -> Duration {
        // Kernels may be built or started without it.
        let text = try? String(contentsOfFile: "/proc/pressure/" + resource, encoding: .utf8)
        let line = text?.split(separator: "\n").first { $0.hasPrefix("some ") }
        let total = line?.split(separator: " ").last { $0.hasPrefix("total=") }
        return .microseconds(total.flatMap { Int($0.dropFirst("total=".count)) } ?? 0)
    }
}
