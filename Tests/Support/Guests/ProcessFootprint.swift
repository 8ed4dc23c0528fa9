// SPDX-License-Identifier: Apache-2.0
import Foundation

/// What a process holds and has used, from /proc.
public struct ProcessFootprint: Sendable, CustomStringConvertible {
    public let descriptorCount: Int
    public let threadCount: Int
    public let mappingCount: Int
    public let residentKibibytes: Int
    public let processorTime: Duration

    public init(of processID: pid_t) throws {
        let folder = "/proc/\(processID)"
        descriptorCount = try FileManager.default.contentsOfDirectory(atPath: folder + "/fd").count
        threadCount = try FileManager.default.contentsOfDirectory(atPath: folder + "/task").count
        mappingCount = try Self.lines(of: folder + "/maps").count
        residentKibibytes =
            try Self.lines(of: folder + "/status").first { $0.hasPrefix("VmRSS:") }
            .flatMap { Int($0.filter(\.isNumber)) } ?? 0
        // The name in parentheses may hold spaces; utime and stime are fields 14 and 15.
        let statistics = try Self.lines(of: folder + "/stat").joined()
        let fields = statistics[(statistics.lastIndex(of: ")") ?? statistics.startIndex)...]
            .split(separator: " ")
        let ticks = fields.count > 13 ? (Int(fields[12]) ?? 0) + (Int(fields[13]) ?? 0) : 0
        processorTime = .milliseconds(ticks * 1000 / sysconf(Int32(_SC_CLK_TCK)))
    }

    /// Whether nothing was left open, running or mapped.
    public func holdsAsMuch(as other: ProcessFootprint) -> Bool {
        descriptorCount == other.descriptorCount && threadCount == other.threadCount
            && mappingCount == other.mappingCount
    }

    public var description: String {
        "\(descriptorCount) descriptors, \(threadCount) threads, \(mappingCount) mappings, "
            + "\(residentKibibytes) KiB resident, \(processorTime) of processor time"
    }

    private static func lines(of path: String) throws -> [Substring] {
        try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n")
    }
}
