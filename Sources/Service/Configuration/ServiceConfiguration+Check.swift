// SPDX-License-Identifier: Apache-2.0

import LinuxIO

extension ServiceConfiguration {
    /// Checks everything that can be checked without opening a file.
    ///
    /// - Parameter knownFeatures: the names that `withheldFeatures` may have.
    /// - Throws: the first thing that is wrong.
    public func check(knownFeatures: [String]) throws(ConfigurationError) {
        if scsi == nil, vsock == nil { throw .nothingToServe }
        if let scsi { try Self.checkPath("--scsi-socket", scsi.socketPath) }
        if let vsock { try Self.check(vsock) }
        if let scsi, let vsock { try Self.checkApart(scsi, vsock) }
        for name in withheldFeatures where !knownFeatures.contains(name) {
            throw .unknownFeature(name, known: knownFeatures)
        }
    }

    private static func check(_ vsock: VsockConfiguration) throws(ConfigurationError) {
        try checkPath("--vsock-socket", vsock.socketPath)
        // The guest's connections go to the path with "_" and a port number appended.
        let room = "_4294967295".utf8.count
        try checkPath(
            "--vsock-path", vsock.path, limit: UnixAddress.maximumByteCount - room)
        guard (3...0xFFFF_FFFE).contains(vsock.guestCID) else { throw .illegalCID(vsock.guestCID) }
        guard vsock.path != vsock.socketPath else {
            throw .samePath(flag: "--vsock-socket", otherFlag: "--vsock-path", path: vsock.path)
        }
    }

    private static func checkApart(
        _ scsi: SCSIConfiguration, _ vsock: VsockConfiguration
    ) throws(ConfigurationError) {
        for (flag, path) in [("--vsock-socket", vsock.socketPath), ("--vsock-path", vsock.path)]
        where path == scsi.socketPath {
            throw .samePath(flag: "--scsi-socket", otherFlag: flag, path: path)
        }
    }

    private static func checkPath(
        _ flag: String, _ path: String, limit: Int = UnixAddress.maximumByteCount
    ) throws(ConfigurationError) {
        guard (1...limit).contains(path.utf8.count) else {
            throw .pathTooLong(flag: flag, path: path, limit: limit)
        }
    }
}
