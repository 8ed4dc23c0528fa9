// SPDX-License-Identifier: Apache-2.0
import Foundation

/// What a process holds and has used, from /proc.
public struct ProcessFootprint: Sendable, CustomStringConvertible {
    public let descriptorCount: Int
    public let threadCount: Int
    public let mappingCount: Int
    public let residentKibibytes: Int
    public let processorTime: Duration
    /// Whether every thread slept; one that a busy machine keeps from running does not.
    let isWaiting: Bool

    public init(of processID: pid_t) throws {
        let folder = "/proc/\(processID)"
        descriptorCount = try FileManager.default.contentsOfDirectory(atPath: folder + "/fd").count
        let threads = try FileManager.default.contentsOfDirectory(atPath: folder + "/task")
        threadCount = threads.count
        // A thread that has ended since has no state.
        let states = threads.compactMap { try? Self.state(of: folder + "/task/" + $0) }
        isWaiting = states.allSatisfy { $0 == "S" }
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

    /// What a process holds once it rests: it waits for something, and holds the same and has used no
    /// more processor time for a while.
    ///
    /// - Throws: when it does not come to rest within two minutes.
    public static func settled(of processID: pid_t) throws -> ProcessFootprint {
        var last = try ProcessFootprint(of: processID)
        var alike = 0
        for _ in 0..<2400 where alike < 6 {
            usleep(50_000)
            let next = try ProcessFootprint(of: processID)
            let rests =
                next.isWaiting && next.holdsAsMuch(as: last)
                && next.processorTime == last.processorTime
            alike = rests ? alike + 1 : 0
            last = next
        }
        guard alike == 6 else { throw GuestError("process \(processID) does not rest: \(last)") }
        return last
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

    /// The letter behind the name in parentheses, which may hold spaces.
    private static func state(of folder: String) throws -> Substring? {
        let statistics = try lines(of: folder + "/stat").joined()
        return statistics.split(separator: ")").last?.split(separator: " ").first
    }

    private static func lines(of path: String) throws -> [Substring] {
        try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n")
    }
}
