// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import Targets
import Testing

@testable import ISCSIBackstore

@Suite("A login at a target", .serialized)
struct LoginTests {
    @Test("leads to a session that knows what is behind the LUN")
    func logsIn() throws {
        let target = try TgtTarget()
        let context = try SessionContext(target.url())
        #expect(try context.bringUp(), "\(context.lines.all)")
        let unit = try #require(context.session.unit)
        #expect(unit.blockCount == 131_072)
        #expect(unit.blockSize == 512)
        #expect(unit.serialNumber == "disk1")
        #expect(!unit.designators.isEmpty)
        #expect(unit.deviceType == 0)
        #expect(context.lines.count(containing: "info session up") == 1)
        #expect(context.lines.count(containing: "max-segment=8192") == 1, "\(context.lines.all)")
    }

    @Test("resolves a portal's name on another thread")
    func name() throws {
        let target = try TgtTarget()
        let url = target.url().replacing("127.0.0.1", with: "localhost")
        let context = try SessionContext(url)
        context.session.start()
        #expect(context.session.phase == .resolving)
        #expect(try context.turn { context.session.phase == .up }, "\(context.lines.all)")
    }

    @Test("reaches a portal over IPv6")
    func internetProtocol6() throws {
        var setUp = TgtTarget.Configuration()
        setUp.address = "::1"
        let target = try TgtTarget(setUp)
        #expect(target.url().hasPrefix("iscsi://[::1]:"))
        let context = try SessionContext(target.url())
        #expect(try context.bringUp(), "\(context.lines.all)")
        #expect(try context.run((0, 0)) == .answered(status: 0, .none))
    }

    @Test("goes to the next portal when one does not answer")
    func failover() throws {
        let target = try TgtTarget()
        let dead = ListeningSockets.freePort()
        let url = target.url().replacing("127.0.0.1:", with: "127.0.0.1:\(dead),127.0.0.1:")
        let context = try SessionContext(url)
        #expect(try context.bringUp(), "\(context.lines.all)")
        #expect(context.lines.count(containing: "Connection refused") == 1, "\(context.lines.all)")
    }

    @Test("authenticates us with CHAP, and the target to us", arguments: [false, true])
    func chap(isMutual: Bool) throws {
        var setUp = TgtTarget.Configuration()
        setUp.account = ("joe", "secret-of-joe")
        if isMutual { setUp.outgoingAccount = ("disk", "secret-of-disk") }
        let target = try TgtTarget(setUp)
        let outgoing = CHAPCredentials(user: "disk", secret: try ISCSISecret("secret-of-disk"))
        let context = try SessionContext(target.url(credentials: "joe%secret-of-joe@")) {
            if isMutual { $0.targetCredentials = outgoing }
        }
        #expect(try context.bringUp(), "\(context.lines.all)")
        #expect(context.lines.count(containing: "secret-of") == 0)
        #expect(context.lines.count(containing: "CHAP") == 0)
    }

    @Test("is refused with a wrong secret, without a spin")
    func wrongSecret() throws {
        var setUp = TgtTarget.Configuration()
        setUp.account = ("joe", "secret-of-joe")
        let target = try TgtTarget(setUp)
        let context = try SessionContext(target.url(credentials: "joe%secret-of-jim@"))
        let error = try context.firstFailure()
        #expect(
            error?.description.contains("user or secret wrong or missing (0201h)") == true,
            "\(context.lines.all)")
        try context.turn(atMost: .seconds(1)) { false }
        #expect(context.session.attempt.failureCount < 8)
        #expect(context.lines.count(containing: "warning no session") == 1)
        #expect(context.lines.count(containing: "secret-of") == 0)
    }

    @Test("is refused when the target gives a wrong secret")
    func wrongTargetSecret() throws {
        var setUp = TgtTarget.Configuration()
        setUp.account = ("joe", "secret-of-joe")
        setUp.outgoingAccount = ("disk", "secret-of-disk")
        let target = try TgtTarget(setUp)
        let wrong = CHAPCredentials(user: "disk", secret: try ISCSISecret("secret-of-dick"))
        let context = try SessionContext(target.url(credentials: "joe%secret-of-joe@")) {
            $0.targetCredentials = wrong
        }
        #expect(
            try context.firstFailure()?.description.contains("Invalid CHAP_R response") == true,
            "\(context.lines.all)")
    }

    @Test("is refused when the target wants a secret and we have none")
    func missingSecret() throws {
        var setUp = TgtTarget.Configuration()
        setUp.account = ("joe", "secret-of-joe")
        let target = try TgtTarget(setUp)
        let context = try SessionContext(target.url())
        #expect(
            try context.firstFailure()?.description.contains("0201h") == true,
            "\(context.lines.all)")
    }

    @Test("names the target that is not there")
    func wrongName() throws {
        let target = try TgtTarget()
        let url = target.url().replacing(":disk/", with: ":other/")
        let context = try SessionContext(url)
        #expect(
            try context.firstFailure()?.description.contains("no target of this name (0203h)")
                == true, "\(context.lines.all)")
    }

    @Test("names the LUN that is not there")
    func wrongLUN() throws {
        let target = try TgtTarget()
        let context = try SessionContext(target.url(lun: 9))
        #expect(try context.firstFailure() == .noSuchLUN(9), "\(context.lines.all)")
    }

    @Test("names the portal that nobody listens at")
    func wrongPort() throws {
        let port = ListeningSockets.freePort()
        let context = try SessionContext("iscsi://127.0.0.1:\(port)/iqn.2026-01.com.example:d/1")
        #expect(
            try context.firstFailure()
                == .unconnectable(portal: "127.0.0.1:\(port)", reason: "Connection refused"))
    }

    @Test("names the name that nobody has")
    func wrongHost() throws {
        let context = try SessionContext("iscsi://host.invalid/iqn.2026-01.com.example:d/1")
        let error = try context.firstFailure()
        #expect(error?.description.contains("host.invalid cannot be resolved") == true)
    }

    @Test("is refused where the initiator may not use the target")
    func notAllowed() throws {
        var setUp = TgtTarget.Configuration()
        setUp.isOpen = false
        let target = try TgtTarget(setUp)
        let context = try SessionContext(target.url())
        let error = try context.firstFailure()
        #expect(error?.description.contains("refuses the login") == true, "\(context.lines.all)")
    }

    @Test("puts digests on the headers when asked to")
    func headerDigest() throws {
        var setUp = TgtTarget.Configuration()
        setUp.parameters["HeaderDigest"] = "CRC32C"
        let target = try TgtTarget(setUp)
        let context = try SessionContext(target.url()) { $0.headerDigest = .required }
        #expect(try context.bringUp(), "\(context.lines.all)")
        #expect(context.lines.count(containing: "header-digest=true") == 1, "\(context.lines.all)")
        let block = TestBuffer(TestBuffer.pattern(block: 1, count: 8))
        let outcome = try context.run(
            BlockCDB.write(1, 8), direction: .write, byteCount: 4096, pieces: block.pieces)
        #expect(outcome == .answered(status: 0, .none))
    }

    @Test("ends with a logout")
    func logout() throws {
        let target = try TgtTarget()
        let context = try SessionContext(target.url())
        try context.bringUp()
        #expect(try target.sessions().count == 1)
        context.session.close()
        #expect(try context.turn { (try? target.sessions().count) == 0 })
    }
}
