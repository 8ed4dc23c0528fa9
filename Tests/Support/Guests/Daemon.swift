// SPDX-License-Identifier: Apache-2.0
import Foundation

/// The daemon under test, serving one SCSI and one vsock device from a folder of its own.
public final class Daemon: Sendable {
    /// The context id that the guest is given.
    public static let guestCID: UInt32 = 42

    public let folder: String
    public let disk: DiskImage
    private let process: ChildProcess

    public var scsiSocketPath: String { folder + "/scsi.sock" }
    public var vsockSocketPath: String { folder + "/vsock.sock" }
    /// Where the host's side of AF_VSOCK meets the guest's: `CONNECT` here, listeners at `_<port>`.
    public var hostPath: String { folder + "/host" }

    /// Starts the daemon and waits for its notification that it is ready.
    ///
    /// - Parameters:
    ///   - disabledFeatures: passed as `--disable-feature`, one each.
    ///   - diskMebibytes: the size of the disk at target 0, LUN 0.
    ///   - furtherUnits: passed as `--lun`, one each.
    ///   - guestCID: the context id of the guest.
    ///   - furtherArguments: passed as they are.
    ///   - isControlled: whether `control` can be used.
    /// - Throws: `GuestError` with the daemon's log when it does not become ready.
    public init(
        disabledFeatures: [String] = [], diskMebibytes: UInt64 = 256, furtherUnits: [String] = [],
        guestCID: UInt32 = Daemon.guestCID, furtherArguments: [String] = [],
        isControlled: Bool = false
    ) throws {
        guard FileManager.default.isExecutableFile(atPath: Workspace.daemon) else {
            throw GuestError("\(Workspace.daemon) is missing: build the product vhostd for release")
        }
        let folder = try Workspace.makeRunFolder()
        self.folder = folder
        disk = try DiskImage(path: folder + "/disk.img", mebibytes: diskMebibytes)
        let notification = try NotificationSocket(path: folder + "/notify")
        var arguments = [
            Workspace.daemon, "run", "--scsi-socket", folder + "/scsi.sock", "--lun",
            disk.path,
            "--vsock-socket", folder + "/vsock.sock", "--guest-cid", "\(guestCID)",
            "--vsock-path", folder + "/host",
        ]
        arguments += disabledFeatures.flatMap { ["--disable-feature", $0] }
        arguments += furtherUnits.flatMap { ["--lun", $0] }
        arguments += furtherArguments
        if isControlled { arguments += ["--control-socket", folder + "/control.sock"] }
        process = try ChildProcess(
            arguments, environment: ["NOTIFY_SOCKET": notification.path],
            errorPath: folder + "/daemon.log", onLine: { _ in })
        do {
            try notification.waitUntilReady(within: .seconds(120))
        } catch {
            process.killAndWait()
            throw GuestError("the daemon did not start: \(error)\n\(log)")
        }
    }

    deinit {
        process.send(signal: SIGKILL)
    }

    public var isRunning: Bool { process.isRunning }

    public var log: String {
        (try? String(contentsOfFile: folder + "/daemon.log", encoding: .utf8)) ?? ""  // No log yet.
    }

    public func footprint() throws -> ProcessFootprint {
        try ProcessFootprint(of: process.processID)
    }

    /// The footprint once the daemon has nothing left to do: right after READY=1 the socket that said
    /// so may still be open.
    public func settledFootprint() throws -> ProcessFootprint {
        try ProcessFootprint.settled(of: process.processID)
    }

    /// Waits until the footprint is as large as `expected` again and returns the last one seen.
    public func footprint(
        settledTo expected: ProcessFootprint, within timeout: Duration
    ) throws -> ProcessFootprint {
        let clock = ContinuousClock()
        let deadline = clock.now + timeout
        var footprint = try footprint()
        while !footprint.holdsAsMuch(as: expected) && clock.now < deadline {
            usleep(5_000)
            footprint = try self.footprint()
        }
        return footprint
    }

    /// Runs `vhostd ctl` on the daemon and returns its output; throws the output when it fails.
    @discardableResult
    public func control(_ arguments: String...) throws -> String {
        try ChildProcess.output(
            of: [Workspace.daemon, "ctl"] + arguments + ["--socket", folder + "/control.sock"])
    }

    /// Asks the daemon to end, and returns how it did; nil when it took longer than `timeout`, on a
    /// machine that has nothing else to do.
    public func terminate(within timeout: Duration) -> ExitStatus? {
        process.terminate(within: timeout)
    }

    /// Ends the daemon and removes its folder.
    public func remove() throws {
        process.killAndWait()
        try FileManager.default.removeItem(atPath: folder)
    }
}
