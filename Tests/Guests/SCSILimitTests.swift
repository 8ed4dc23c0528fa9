// SPDX-License-Identifier: Apache-2.0
import Foundation
import Guests
import Testing

/// A disk that is changed by `vhostd ctl` while fio works on it and checks every block.
@Suite("A disk that vhostd ctl changes under fio", .serialized)
struct SCSILimitTests {
    /// What the service says of the disk, and when.
    private struct Sample {
        /// Before the service was asked, or after it has answered.
        let time: ContinuousClock.Instant
        /// Operations that were let through.
        let admittedCount: Int
        let waitingCount: Int
        let delayedCount: Int
    }

    @Test("comes, is throttled, grows, is set free and goes, and no block is lost")
    func throttling() async throws {
        try await onOwnThread {
            let daemon = try Daemon(diskMebibytes: 8, isControlled: true)
            let guest = try Guest(GuestSetup(.uml, .packed, requestQueueCount: 1), on: daemon)
            let path = daemon.folder + "/other.img"
            _ = try DiskImage(path: path, mebibytes: 64)
            try daemon.control("lun", "add", "target=5,path=\(path)")
            try guest.run("until [ -b /dev/sdb ]; do usleep 20000; done")
            // It must not get far before it is watched.
            try daemon.control("lun", "limit", "5", "--iops", "200", "--iops-burst", "20")
            let load = guest.start("/scenarios/checksums /dev/sdb")

            try Self.expectLimit(200, burst: 20, on: daemon)
            let file = try #require(FileHandle(forWritingAtPath: path))
            try file.truncate(atOffset: 80 << 20)
            try daemon.control("lun", "resize", "5")
            try Self.expectLimit(500, burst: 100, on: daemon)
            try daemon.control("lun", "limit", "5", "--bytes-per-second", "8000000")
            let list = try daemon.control("lun", "list")
            #expect(list.contains("7.6 MiB/s"), "\(list)")
            #expect(load.waitForExit(within: .zero) == nil, "the limits came too late")

            try daemon.control("lun", "limit", "5")
            #expect(load.waitForExit(within: .seconds(900)) == 0, "\(load.text)")
            #expect(load.text.hasSuffix("checksums scenario passed"))
            let end = try Self.sample(daemon)
            #expect(end.waitingCount == 0)
            #expect(end.delayedCount > 0)
            try guest.run("[ \"$(cat /sys/block/sdb/size)\" = \(80 * 2048) ]")
            try daemon.control("lun", "remove", "5")
            try guest.run("while [ -e /sys/block/sdb ]; do usleep 20000; done")
            try guest.powerOff()
            #expect(daemon.terminate(within: .seconds(2)) == .exited(0))
            try daemon.remove()
        }
    }

    /// Sets a limit and watches the disk until a few hundred operations have passed: however fast or
    /// slow this machine is, no more may pass than the burst and what the time has brought.
    private static func expectLimit(_ rate: Int, burst: Int, on daemon: Daemon) throws {
        try daemon.control(
            "lun", "limit", "5", "--iops", "\(rate)", "--iops-burst", "\(burst)")
        // The clock is read before the first answer and after the last one.
        let start = ContinuousClock().now
        let first = try sample(daemon)
        var last = first
        for _ in 0..<6000 where last.admittedCount < first.admittedCount + 4 * burst + rate / 2 {
            usleep(20_000)
            last = try sample(daemon)
        }
        let passed = last.admittedCount - first.admittedCount
        #expect(passed >= 4 * burst + rate / 2, "the disk stands still")
        let allowed = Double(burst) + Double(rate) * ((last.time - start) / .seconds(1)) + 1
        #expect(Double(passed) <= allowed)
    }

    /// What `vhostd ctl lun list --json` says of the disk at target 5.
    private static func sample(_ daemon: Daemon) throws -> Sample {
        let text = try daemon.control("lun", "list", "--json")
        let time = ContinuousClock().now
        let reply = try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any]
        let status = reply?["status"] as? [String: Any]
        let scsi = status?["scsi"] as? [String: Any]
        let units = scsi?["units"] as? [[String: Any]] ?? []
        let unit = try #require(units.first { $0["target"] as? Int == 5 })
        let figures = try #require(unit["figures"] as? [String: Any])
        let asked = ["readCount", "writeCount", "discardCount"].compactMap { figures[$0] as? Int }
        let waitingCount = try #require(unit["waitingCount"] as? Int)
        return Sample(
            time: time, admittedCount: asked.reduce(0, +) - waitingCount,
            waitingCount: waitingCount, delayedCount: try #require(figures["delayedCount"] as? Int))
    }
}
