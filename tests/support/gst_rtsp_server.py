"""An RTSP server of GStreamer's, run by the system's Python, which has its bindings; it prints its URL."""

from __future__ import annotations

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

SOUND = "audiotestsrc is-live=true freq=440 {} ! audio/x-raw,rate=8000,channels=1 ! mulawenc ! rtppcmupay name=pay0"
PICTURES = (
    "videotestsrc is-live=true ! video/x-raw,format=I420,width=64,height=48,framerate=10/1 ! jpegenc "
    "! rtpjpegpay name=pay1"
)
LAUNCHES = {
    "/talk": SOUND.format(""),
    "/film": f"{SOUND.format('')} {PICTURES}",
    "/falls-silent": f"{SOUND.format('num-buffers=16')} {PICTURES}",  # the sound ends, the pictures go on
}
LOGIN = ("anna", "secret")

Gst.init(None)
server = GstRtspServer.RTSPServer(service="0", address="127.0.0.1")
for path, launch in LAUNCHES.items():
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(f"( {launch} )")
    rights = Gst.Structure.new_empty("user")
    for right in ("media.factory.access", "media.factory.construct"):
        rights.set_value(right, True)
    factory.add_role_from_structure(rights)
    server.get_mount_points().add_factory(path, factory)
auth, user = GstRtspServer.RTSPAuth(), GstRtspServer.RTSPToken()
user.set_string("media.factory.role", "user")
auth.add_digest(*LOGIN, user)
auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
server.set_auth(auth)
server.attach(None)
print(f"rtsp://{LOGIN[0]}:{LOGIN[1]}@127.0.0.1:{server.get_bound_port()}", flush=True)
GLib.MainLoop().run()
