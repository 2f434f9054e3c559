"""A calibration as one self-contained HTML page, as PNG figures, and as a CSV table."""

from noise_models.report.page import render_report as render_report
from noise_models.report.tables import profile_csv as profile_csv
