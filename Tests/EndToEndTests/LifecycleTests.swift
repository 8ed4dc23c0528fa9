// SPDX-License-Identifier: Apache-2.0

import Foundation
import Guests
import Testing

@Suite("The service")
struct LifecycleTests {
    private static let both = [
        "run", "--scsi-socket", "@/s", "--lun", "@/disk", "--vsock-socket", "@/v", "--guest-cid",
        "3", "--vsock-path", "@/h",
    ]

    private func makeService(environment: [String: String] = [:]) throws -> Program {
        let program = try Program(Self.both, environment: environment) {
            try Program.makeFile($0 + "/disk", byteCount: 16 << 20)
        }
        try program.waitUntilListening("v")
        return program
    }

    @Test("ends with status 0 within a second of SIGTERM and takes its sockets with it")
    func termination() throws {
        let program = try makeService()
        #expect(program.terminate(within: .seconds(1)) == .exited(0))
        for name in ["s", "v", "h"] { #expect(!program.exists(name), "\(name)") }
    }

    @Test("takes its sockets with it when it is told to end by several signals at once")
    func severalSignals() throws {
        let program = try makeService()
        for signal in [SIGSTOP, SIGTERM, SIGINT, SIGCONT] { kill(program.processID, signal) }
        #expect(program.exitStatus() == .exited(0))
        for name in ["s", "v", "h"] { #expect(!program.exists(name), "\(name)") }
    }

    @Test("takes its configuration from a file")
    func configurationFile() throws {
        let program = try Program(["run", "--config", "@/vm1.toml", "--scsi-socket", "@/s"]) {
            try Program.makeFile($0 + "/disk", byteCount: 16 << 20)
            try Program.writeFile(
                $0 + "/vm1.toml",
                """
                [scsi]
                socket = "overridden by the flag"
                [[scsi.lun]]
                path = "\($0)/disk"
                """)
        }
        try program.waitUntilListening("s")
        program.terminate()
        #expect(program.exitStatus() == .exited(0))
    }

    @Test("gives up rights that it was started with")
    func rights() throws {
        let program = try makeService()
        let status = try String(
            contentsOfFile: "/proc/\(program.processID)/status", encoding: .utf8)
        #expect(status.contains("NoNewPrivs:\t1"))
    }

    @Test("feeds the watchdog for as long as it is alive")
    func watchdog() throws {
        let folder = try Workspace.makeRunFolder()
        defer { try? FileManager.default.removeItem(atPath: folder) }  // The next run has its own.
        let manager = try NotificationSocket(path: folder + "/notify")
        let program = try makeService(environment: [
            "NOTIFY_SOCKET": folder + "/notify", "WATCHDOG_USEC": "300000",
        ])
        try manager.wait(for: "READY=1", within: .seconds(120))
        for _ in 0..<3 { try manager.wait(for: "WATCHDOG=1", within: .seconds(120)) }
        program.terminate()
        #expect(program.exitStatus() == .exited(0))
    }

    @Test("ends with status 0 when SIGTERM comes while it waits for a unit that it requires")
    func terminationAtStart() throws {
        let unit = "iscsi=iscsi://127.0.0.1:1/iqn.2026-01.com.example:none/1,required"
        let program = try Program(["run", "--scsi-socket", "@/s", "--lun", unit])
        for _ in 0..<12_000 where !program.errors.contains("refused") { usleep(10_000) }
        #expect(program.errors.contains("refused"))
        program.terminate()
        #expect(program.exitStatus() == .exited(0))
    }

    @Test("replaces sockets that a killed one left behind")
    func staleSockets() throws {
        let first = try makeService()
        kill(first.processID, SIGKILL)
        #expect(first.exitStatus() == .killed(signal: SIGKILL))
        #expect(first.exists("s"))
        let second = try Program(["run", "--scsi-socket", first.folder + "/s"])
        try first.waitUntilListening("s")
        #expect(second.terminate(within: .seconds(1)) == .exited(0))
    }

    @Test("uses at most 8 MiB and no processor time while nobody is connected")
    func idle() throws {
        let program = try makeService()
        let before = try program.settledFootprint
        usleep(2_000_000)
        let after = try program.footprint
        #expect(after.residentKibibytes <= 8192, "\(after)")
        #expect(after.processorTime == before.processorTime, "before \(before), after \(after)")
        #expect(after.holdsAsMuch(as: before), "before \(before), after \(after)")
    }

    @Test("holds no more after a thousand front-ends that came and went")
    func connectStorm() throws {
        let program = try makeService()
        let before = try program.settledFootprint
        for _ in 0..<1000 {
            try program.waitUntilListening("s")
            try program.waitUntilListening("v")
        }
        let after = try program.settledFootprint
        #expect(after.holdsAsMuch(as: before), "before \(before), after \(after)")
    }
}
