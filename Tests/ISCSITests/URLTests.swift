// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import ISCSIBackstore

@Suite("An iSCSI URL")
struct URLTests {
    @Test("names a portal, a target and a LUN")
    func plain() throws {
        let url = try ISCSIURL("iscsi://10.1.2.3:3261/iqn.2026-01.com.example:disk/7")
        #expect(url.portals == [ISCSIPortal(host: "10.1.2.3", port: 3261)])
        #expect(url.targetName == "iqn.2026-01.com.example:disk")
        #expect(url.lun == 7)
        #expect(url.user == nil)
        #expect(url.secret == nil)
    }

    @Test("has the registered port where none is given")
    func defaultPort() throws {
        let url = try ISCSIURL("iscsi://storage.example/iqn.2026-01.com.example/0")
        #expect(url.portals == [ISCSIPortal(host: "storage.example", port: 3260)])
    }

    @Test("may name several portals, IPv6 addresses in brackets")
    func portals() throws {
        let url = try ISCSIURL("iscsi://[fe80::1]:3261,[::1],a.example:9/iqn.2026-01.com.example/0")
        #expect(
            url.portals.map(\.description) == ["[fe80::1]:3261", "[::1]:3260", "a.example:9"])
    }

    @Test("ends the user at the first % and the secret at the last @")
    func credentials() throws {
        let url = try ISCSIURL("iscsi://joe%p%@/ss@host/iqn.2026-01.com.example/1")
        #expect(url.user == "joe")
        #expect(url.secret?.text == "p%@/ss")
        #expect(url.portals == [ISCSIPortal(host: "host")])
    }

    @Test("decodes the target's name")
    func encodedName() throws {
        let url = try ISCSIURL("iscsi://host/iqn.2026-01.com.example%3Adisk/1")
        #expect(url.targetName == "iqn.2026-01.com.example:disk")
    }

    @Test("shows its secret nowhere")
    func secret() throws {
        let url = try ISCSIURL("iscsi://joe%hush@host/iqn.2026-01.com.example/1")
        var dumped = ""
        dump(url, to: &dumped)
        #expect(!"\(url) \(dumped) \(String(reflecting: url))".contains("hush"))
        let configuration = ISCSISessionConfiguration(
            url: url, initiatorName: "iqn.2026-01.com.example:us", sessionIdentifier: 1)
        dumped = ""
        dump(configuration, to: &dumped)
        #expect(!"\(configuration) \(dumped)".contains("hush"))
    }

    @Test(
        "is refused where it is none, and the message holds no secret",
        arguments: [
            "iscsi:/joe%hush@host/iqn.2026-01.com.example/1", "joe%hush",
            "iscsi://joe%hush@host/iqn.2026-01.com.example",
            "iscsi://joe%hush@host/iqn.2026-01.com.example/1/2",
            "iscsi://joe%hush@host/example/1", "iscsi://joe%hush@host:0/iqn.2026-01.com.example/1",
            "iscsi://joe%hush@host:65536/iqn.2026-01.com.example/1",
            "iscsi://joe%hush@::1/iqn.2026-01.com.example/1",
            "iscsi://joe%hush@/iqn.2026-01.com.example/1", "iscsi://%hush@h/iqn.2026-01.com/1",
            "iscsi://joe%hush@host/iqn.2026-01.com.example/16384",
            "iscsi://joe%hush@host/iqn.2026-01.com.example/-1",
            "iscsi://joe%@host/iqn.2026-01.com.example/1",
        ])
    func refused(text: String) throws {
        let error = #expect(throws: ISCSIError.self) { try ISCSIURL(text) }
        let message = try #require(error).description
        #expect(!message.contains("hush"))
    }
}

@Suite("A CHAP secret")
struct SecretTests {
    @Test("is the first line of a file")
    func file() throws {
        let folder = try ScratchFolder()
        let path = try folder.write("secret", "hush hush\nmore\n")
        #expect(try ISCSISecret(file: path).text == "hush hush")
    }

    @Test("is refused when its file is not there or empty")
    func noFile() throws {
        let folder = try ScratchFolder()
        #expect(throws: ISCSIError.self) { try ISCSISecret(file: folder.path + "/none") }
        let empty = try folder.write("empty", "\n")
        #expect(throws: ISCSIError.illegalSecret(byteCount: 0, limit: 255)) {
            try ISCSISecret(file: empty)
        }
    }

    @Test("may come from the environment")
    func environment() throws {
        #expect(try !ISCSISecret(environment: "PATH").text.isEmpty)
        #expect(throws: ISCSIError.unsetSecret(variable: "NO_SUCH_VARIABLE")) {
            try ISCSISecret(environment: "NO_SUCH_VARIABLE")
        }
    }

    @Test("has at most 255 bytes")
    func length() throws {
        _ = try ISCSISecret(String(repeating: "s", count: 255))
        #expect(throws: ISCSIError.illegalSecret(byteCount: 256, limit: 255)) {
            try ISCSISecret(String(repeating: "s", count: 256))
        }
    }
}

@Suite("A session identifier")
struct SessionIdentifierTests {
    @Test("stays the same for the same LUN of the same machine, and differs for others")
    func stable() {
        func identifier(_ machine: String, _ target: Int, _ lun: Int) -> UInt64 {
            ISCSISessionConfiguration.sessionIdentifier(
                machine: machine, target: target, lun: lun)
        }
        #expect(identifier("/run/a", 1, 2) == identifier("/run/a", 1, 2))
        let all = ["/run/a", "/run/b"].flatMap { machine in
            (0..<16).flatMap { target in (0..<16).map { identifier(machine, target, $0) } }
        }
        #expect(Set(all).count == 512)
        #expect(all.allSatisfy { $0 < 1 << 40 })
    }
}
