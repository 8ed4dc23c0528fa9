// SPDX-License-Identifier: Apache-2.0

import Foundation
import ISCSIBackstore
import Service
import Testing

@Suite("A configuration file")
struct ConfigurationFileTests {
    private static let everything = """
        # One virtual machine.
        disable-features = [
            "packed",  # for an old kernel
            'event-idx',
        ]

        [log]
        level = "debug"

        [scsi]
        socket = "/run/vm1/scsi.sock"
        poll-us = 50
        threads = 4
        initiator = "vm1"
        lock-disks = "in-use"

        [[scsi.lun]]
        path = "/srv/a b.img"
        readonly = true

        [[scsi.lun]]
        target = 1_0
        lun = +3
        path = '/dev/vg/data\\1'
        block-size = 4096
        iops = 500
        iops-burst = 50
        bytes-per-second = 1000000
        bytes-burst = 65536
        physical-block-size = 8192
        removable = true
        vendor = "ACME"
        product = "Disk"
        revision = "1"
        serial = "42"
        wwn = "5000000000000001"
        reservations = "/var/lib/vhostd/vm1.state"
        shared = true

        [[scsi.lun]]
        iscsi = "iscsi://10.0.0.1,10.0.0.2:3261/iqn.2026-01.com.example:disk/1"
        required = true
        replacement-timeout = 30

        [vsock]
        socket = "/run/vm1/\\u0076sock.sock"
        guest-cid = 3
        path = "/run/vm1/vsock"
        """

    private func draft(_ text: String) throws -> ConfigurationDraft {
        var draft = ConfigurationDraft()
        try draft.read(Array(text.utf8), path: "vm1.toml")
        return draft
    }

    @Test("sets everything that flags can set")
    func all() throws {
        let configuration = try draft(Self.everything).configuration()
        #expect(configuration.withheldFeatures == ["packed", "event-idx"])
        #expect(configuration.logLevel == .debug)
        let scsi = try #require(configuration.scsi)
        #expect(scsi.socketPath == "/run/vm1/scsi.sock")
        #expect(scsi.pollLimit == .microseconds(50))
        #expect(scsi.threadCount == 4)
        #expect(scsi.luns.map(\.path) == ["/srv/a b.img", "/dev/vg/data\\1", ""])
        #expect(scsi.luns.map(\.target) == [0, 10, 1])
        #expect(scsi.luns.map(\.lun) == [0, 3, 0])
        #expect(scsi.luns.map(\.isReadOnly) == [true, false, false])
        #expect(scsi.luns.map(\.disk.isShared) == [false, true, false])
        #expect(scsi.initiatorName == "vm1")
        #expect(scsi.diskLocking == .inUse)
        #expect(scsi.luns.map(\.blockSize) == [512, 4096, 512])
        #expect(scsi.luns.last?.iSCSI?.url.portals.count == 2)
        #expect(scsi.luns.last?.iSCSI?.replacementTimeout == .seconds(30))
        #expect(
            configuration.vsock
                == VsockConfiguration(
                    socketPath: "/run/vm1/vsock.sock", guestCID: 3, path: "/run/vm1/vsock"))
    }

    @Test("may end its lines with a carriage return, and its last line with nothing")
    func lineEnds() throws {
        let text = "[scsi]\r\nsocket = 's'\r\n# the end"
        #expect(try draft(text).configuration().scsi?.socketPath == "s")
    }

    @Test("yields to the environment, which yields to flags")
    func order() throws {
        var draft = try draft(Self.everything)
        #expect(try draft.configuration().logLevel == .debug)
        try draft.readEnvironment {
            ["VHOSTD_LOG_LEVEL": "error", "VHOSTD_VSOCK_GUEST_CID": "7"][$0]
        }
        #expect(try draft.configuration().logLevel == .error)
        try draft.set(.logLevel, to: "trace")
        let configuration = try draft.configuration()
        #expect(configuration.logLevel == .trace)
        #expect(configuration.vsock?.guestCID == 7)
        #expect(configuration.scsi?.socketPath == "/run/vm1/scsi.sock")
    }

    @Test("has its logical units and lists replaced as a whole by flags")
    func lists() throws {
        var draft = try draft(Self.everything)
        try draft.addUnits(["x.img", "y.img"])
        try draft.set(.withheldFeatures, toAll: ["indirect"])
        let configuration = try draft.configuration()
        #expect(configuration.scsi?.luns.map(\.path) == ["x.img", "y.img"])
        #expect(configuration.withheldFeatures == ["indirect"])
    }

    @Test("is not blamed for what the environment or a flag says")
    func blame() throws {
        var draft = try draft(Self.everything)
        let error = #expect(throws: ConfigurationError.self) {
            try draft.readEnvironment { $0 == "VHOSTD_LOG_LEVEL" ? "loud" : nil }
        }
        #expect(error?.description.hasPrefix("VHOSTD_LOG_LEVEL loud: not one of trace") == true)
        try draft.set(.guestCID, to: "1")
        let other = #expect(throws: ConfigurationError.self) { try draft.configuration() }
        #expect(other?.description.hasPrefix("--guest-cid 1: a guest's CID") == true)
    }

    @Test("is shown with every default and every origin")
    func effective() throws {
        var draft = try draft("[scsi]\nsocket = 's'\n[[scsi.lun]]\npath = \"a\\\"b\"\n")
        try draft.set(.logLevel, to: "error")
        let shown = draft.effective(try draft.configuration())
        #expect(
            shown == """
                disable-features = []  # default

                [log]
                level = "error"  # --log-level

                [metrics]
                interval = 15  # default

                [scsi]
                socket = "s"  # vm1.toml:2

                [[scsi.lun]]  # vm1.toml:3
                target = 0
                lun = 0
                path = "a\\"b"
                block-size = 512
                readonly = false

                """)
    }

    @Test("that shows what is effective is itself effective in the same way")
    func roundTrip() throws {
        let first = try draft(Self.everything)
        let configuration = try first.configuration()
        let second = try draft(first.effective(configuration))
        #expect(try second.configuration() == configuration)
    }

    @Test("shows where the secrets of a target are, and can be read again so")
    func credentials() throws {
        let folder = FileManager.default.temporaryDirectory.path + "/\(UUID().uuidString)"
        try FileManager.default.createDirectory(
            atPath: folder, withIntermediateDirectories: false)
        defer { try? FileManager.default.removeItem(atPath: folder) }  // A later run has another.
        for (name, secret) in [("ours", "hush hush hush"), ("theirs", "psst psst psst")] {
            let isMade = FileManager.default.createFile(
                atPath: folder + "/" + name, contents: Data(secret.utf8),
                attributes: [.posixPermissions: 0o600])
            try #require(isMade)
        }
        let first = try draft(
            """
            [scsi]
            socket = 's'
            [[scsi.lun]]
            iscsi = 'iscsi://me@10.0.0.1/iqn.2026-01.com.example:disk/1'
            secret-file = '\(folder)/ours'
            target-user = 'you'
            target-secret-file = '\(folder)/theirs'
            """)
        let configuration = try first.configuration()
        let shown = first.effective(configuration)
        #expect(shown.contains("\nsecret-file = \"\(folder)/ours\"\n"))
        #expect(shown.contains("\ntarget-user = \"you\"\n"))
        #expect(!shown.contains("hush") && !shown.contains("psst"))
        #expect(try draft(shown).configuration() == configuration)
    }
}
