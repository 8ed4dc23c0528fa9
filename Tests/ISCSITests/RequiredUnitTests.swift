// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import Logging
import SCSI
import Targets
import Testing

@testable import ISCSIBackstore

@Suite("Units at targets that a service requires", .serialized)
struct RequiredUnitTests {
    /// Longer than anybody waits for a test.
    private static let limit = Duration.seconds(86400)

    @Test("are all found before the wait ends")
    func found() throws {
        let targets = try [TgtTarget(), TgtTarget()]
        let context = try UnitsContext(targets.map { $0.url() })
        try ISCSILogicalUnit.waitUntilReady(context.units, within: Self.limit)
        #expect(context.units.allSatisfy { $0.session.phase == .up })
    }

    @Test("end the wait at once when a target refuses us, though another may yet come")
    func refused() throws {
        var setUp = TgtTarget.Configuration()
        setUp.account = ("joe", "secret-of-joe")
        let target = try TgtTarget(setUp)
        let portal = "127.0.0.1:\(target.port)"
        let away = "iscsi://127.0.0.1:1/\(TgtTarget.name)/1"
        let cases: [(url: String, status: UInt16)] = [
            (target.url(credentials: "joe%another-secret@"), 0x0201),
            (target.url().replacing(TgtTarget.name, with: TgtTarget.name + "2"), 0x0203),
        ]
        for (url, status) in cases {
            let context = try UnitsContext([away, url])
            #expect(throws: ISCSIError.loginRefused(portal: portal, status: status)) {
                try ISCSILogicalUnit.waitUntilReady(context.units, within: Self.limit)
            }
        }
    }

    @Test("may be given up before their targets answer, by a service that cannot start")
    func givenUp() throws {
        let target = try TgtTarget()
        let url = target.url()
        target.freeze()
        defer { target.thaw() }
        let pool = try WorkerPool(name: "test", threadCount: 1)
        let thread = try LoopThread(name: "test") { loop in
            let configuration = ISCSISessionConfiguration(
                url: try ISCSIURL(url), initiatorName: "iqn.2026-01.com.example:initiator",
                sessionIdentifier: 1)
            let session = ISCSISession(
                configuration, loop: loop, pool: pool,
                log: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
            session.start()
            #expect(session.connection != nil)
            return session
        }
        thread.stopAndJoin()
        pool.stopAndJoin()
    }

    @Test("are awaited at another portal when one refuses us")
    func otherPortal() throws {
        var setUp = TgtTarget.Configuration()
        setUp.isOpen = false
        let closed = try TgtTarget(setUp)
        let open = try TgtTarget()
        let url = open.url().replacing(
            "127.0.0.1:", with: "127.0.0.1:\(closed.port),127.0.0.1:")
        let context = try UnitsContext([url])
        try ISCSILogicalUnit.waitUntilReady(context.units, within: Self.limit)
        #expect(context.units.first?.session.phase == .up)
    }

    @Test(
        "are awaited when the target may let us in later (RFC 7143 §11.13.5)",
        arguments: [0x0206, 0x020A, 0x0300, 0x0301, 0x0302] as [UInt16])
    func passing(status: UInt16) {
        #expect(!ISCSIError.loginRefused(portal: "", status: status).isRefusal)
        #expect(!ISCSIError.unconnectable(portal: "", reason: "").isRefusal)
    }
}

/// Units of one loop, whose sessions have been started.
private final class UnitsContext {
    private let loop: EventLoop
    private let pool: WorkerPool
    private let bus: SCSIBus
    let units: [ISCSILogicalUnit]

    init(_ urls: [String]) throws {
        let loop = try EventLoop()
        let pool = try WorkerPool(name: "test", threadCount: 1)
        let bus = SCSIBus(initiator: InitiatorPort(name: "test"), loop: loop)
        units = try urls.enumerated().map { index, url in
            let configuration = ISCSISessionConfiguration(
                url: try ISCSIURL(url), initiatorName: "iqn.2026-01.com.example:initiator",
                sessionIdentifier: UInt64(index + 1))
            let session = ISCSISession(
                configuration, loop: loop, pool: pool,
                log: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
            return ISCSILogicalUnit(session: session, bus: bus) { _ in }
        }
        (self.loop, self.pool, self.bus) = (loop, pool, bus)
        for unit in units { unit.session.start() }
    }

    deinit {
        for unit in units { unit.close() }
        pool.stopAndJoin()
    }
}
